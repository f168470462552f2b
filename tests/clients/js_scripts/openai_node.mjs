// openai-node: chat completions and responses.
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import * as a from "./abilities.mjs";

const client = new OpenAI({ baseURL: a.BASE_URL, apiKey: a.API_KEY, maxRetries: 0 });
const user = (content) => ({ role: "user", content });
const model = a.MODEL;
const chatTool = zodFunction({ name: "weather", parameters: a.City });
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const tool = { type: "function", name: "weather", parameters, strict: true };

const chatCompletions = {
  async chat() {
    const first = await client.chat.completions.create({ model, messages: [user(a.SAY_HELLO)] });
    const messages = [user(a.SAY_HELLO), first.choices[0].message, user(a.SAY_SUNNY)];
    const second = await client.chat.completions.create({ model, messages });
    return [first, second].map((reply) => reply.choices[0].message.content);
  },
  async stream() {
    const pieces = [];
    for await (const chunk of await client.chat.completions.create({ model, messages: [user(a.SAY_SUNNY)], stream: true }))
      for (const choice of chunk.choices) if (choice.delta.content) pieces.push(choice.delta.content);
    return pieces;
  },
  async tools() {
    const asked = { model, messages: [user(a.CALL_WEATHER)], tools: [chatTool] };
    const whole = await client.chat.completions.parse(asked);
    const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
    const answers = [];
    for (const reply of [whole, streamed]) {
      const message = reply.choices[0].message;
      const call = message.tool_calls[0];
      const result = { role: "tool", tool_call_id: call.id, content: a.weather(JSON.parse(call.function.arguments)) };
      const last = await client.chat.completions.create({ ...asked, messages: [...asked.messages, message, result] });
      answers.push(last.choices[0].message.content);
    }
    const run = { type: "function", function: { ...chatTool.function, function: a.weather, parse: JSON.parse } };
    answers.push(await client.chat.completions.runTools({ ...asked, tools: [run] }).finalContent());
    return answers;
  },
  async structured() {
    const response_format = zodResponseFormat(a.Verdict, "verdict");
    const messages = [user(a.FILL_IN)];
    const first = (await client.chat.completions.parse({ model, messages, response_format })).choices[0].message;
    messages.push(first, user(a.FILL_IN));
    const second = (await client.chat.completions.parse({ model, messages, response_format })).choices[0].message;
    return [first.parsed, second.parsed];
  },
};

const responses = {
  async chat() {
    const first = await client.responses.create({ model, input: [user(a.SAY_HELLO)] });
    const input = [user(a.SAY_HELLO), ...first.output, user(a.SAY_SUNNY)];
    return [first.output_text, (await client.responses.create({ model, input })).output_text];
  },
  async stream() {
    const pieces = [];
    for await (const event of await client.responses.create({ model, input: a.SAY_SUNNY, stream: true }))
      if (event.type === "response.output_text.delta") pieces.push(event.delta);
    return pieces;
  },
  async tools() {
    const asked = { model, input: [user(a.CALL_WEATHER)], tools: [tool] };
    const whole = await client.responses.create(asked);
    const streamed = await client.responses.stream(asked).finalResponse();
    const answers = [];
    for (const reply of [whole, streamed]) {
      const call = reply.output.find((item) => item.type === "function_call");
      const output = a.weather(JSON.parse(call.arguments));
      const result = { type: "function_call_output", call_id: call.call_id, output };
      const last = await client.responses.create({ ...asked, input: [...asked.input, ...reply.output, result] });
      answers.push(last.output_text);
    }
    return answers;
  },
  async structured() {
    const text = { format: zodTextFormat(a.Verdict, "verdict") };
    const first = await client.responses.parse({ model, input: a.FILL_IN, text });
    const input = [user(a.FILL_IN), ...first.output, user(a.FILL_IN)];
    return [first.output_parsed, (await client.responses.parse({ model, input, text })).output_parsed];
  },
};

await a.report(a.USES_RESPONSES ? responses : chatCompletions);
