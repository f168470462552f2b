// LangChain.js: ChatOpenAI over chat completions and over responses.
import { HumanMessage } from "@langchain/core/messages";
import { concat } from "@langchain/core/utils/stream";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import * as a from "./abilities.mjs";

const model = new ChatOpenAI({
  model: a.MODEL,
  apiKey: a.API_KEY,
  maxRetries: 0,
  useResponsesApi: a.USES_RESPONSES,
  configuration: { baseURL: a.BASE_URL },
});
const weather = tool(async (city) => a.weather(city), {
  name: "weather",
  description: "Weather of a city.",
  schema: a.City,
});
const ask = (text) => new HumanMessage(text);

await a.report({
  async chat() {
    const first = await model.invoke([ask(a.SAY_HELLO)]);
    const second = await model.invoke([ask(a.SAY_HELLO), first, ask(a.SAY_SUNNY)]);
    return [first.text, second.text];
  },
  async stream() {
    const pieces = [];
    for await (const chunk of await model.stream(a.SAY_SUNNY)) if (chunk.text) pieces.push(chunk.text);
    return pieces;
  },
  async tools() {
    const answers = [];
    for (const options of [{}, { strict: true }]) {
      const bound = model.bindTools([weather], options);
      const whole = await bound.invoke([ask(a.CALL_WEATHER)]);
      let streamed;
      for await (const chunk of await bound.stream([ask(a.CALL_WEATHER)]))
        streamed = streamed ? concat(streamed, chunk) : chunk;
      for (const reply of [whole, streamed]) {
        const result = await weather.invoke(reply.tool_calls[0]);
        answers.push((await bound.invoke([ask(a.CALL_WEATHER), reply, result])).text);
      }
    }
    return answers;
  },
  async structured() {
    const verdicts = [];
    for (const method of ["jsonSchema", "functionCalling"])
      verdicts.push(await model.withStructuredOutput(a.Verdict, { name: "verdict", method }).invoke(a.FILL_IN));
    return verdicts;
  },
});
