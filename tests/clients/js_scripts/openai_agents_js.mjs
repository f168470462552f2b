// OpenAI Agents SDK for JavaScript, over responses (its default) and over chat completions.
import { Agent, OpenAIProvider, Runner, tool, user } from "@openai/agents";
import * as a from "./abilities.mjs";

const modelProvider = new OpenAIProvider({ baseURL: a.BASE_URL, apiKey: a.API_KEY, useResponses: a.USES_RESPONSES });
const runner = new Runner({ model: a.MODEL, modelProvider, tracingDisabled: true });
const weather = tool({
  name: "weather",
  description: "Weather of a city.",
  parameters: a.City,
  execute: async (city) => a.weather(city),
});

await a.report({
  async chat() {
    const agent = new Agent({ name: "Guide", instructions: "Be brief." });
    const first = await runner.run(agent, a.SAY_HELLO);
    const second = await runner.run(agent, [...first.history, user(a.SAY_SUNNY)]);
    return [first.finalOutput, second.finalOutput];
  },
  async stream() {
    const result = await runner.run(new Agent({ name: "Guide" }), a.SAY_SUNNY, { stream: true });
    const pieces = [];
    for await (const piece of result.toTextStream()) pieces.push(piece);
    return pieces;
  },
  async tools() {
    const agent = new Agent({ name: "Guide", tools: [weather] });
    const whole = await runner.run(agent, a.CALL_WEATHER);
    const streamed = await runner.run(agent, a.CALL_WEATHER, { stream: true });
    await streamed.completed;
    return [whole.finalOutput, streamed.finalOutput];
  },
  async structured() {
    const agent = new Agent({ name: "Guide", outputType: a.Verdict });
    return [(await runner.run(agent, a.FILL_IN)).finalOutput];
  },
});
