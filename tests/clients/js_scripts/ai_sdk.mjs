// AI SDK: generateText, streamText and structured output, with a model of PROVIDER's.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import * as a from "./abilities.mjs";

const settings = { baseURL: a.BASE_URL, apiKey: a.API_KEY };

function createModel() {
  if (process.env.PROVIDER === "openai-compatible")
    return createOpenAICompatible({ ...settings, name: "tuneyard", supportsStructuredOutputs: true })(a.MODEL);
  const openai = createOpenAI(settings);
  return a.USES_RESPONSES ? openai(a.MODEL) : openai.chat(a.MODEL);
}

const model = createModel();
const common = { model, maxRetries: 0 };
if (process.env.PROVIDER === "openai-stateless") common.providerOptions = { openai: { store: false } };
const tools = {
  weather: tool({ description: "Weather of a city.", inputSchema: a.City, execute: async (city) => a.weather(city) }),
};

async function piecesOf(result) {
  const pieces = [];
  for await (const piece of result.textStream) pieces.push(piece);
  return pieces;
}

await a.report({
  async chat() {
    const messages = [{ role: "user", content: a.SAY_HELLO }];
    const first = await generateText({ ...common, messages });
    messages.push(...first.response.messages, { role: "user", content: a.SAY_SUNNY });
    return [first.text, (await generateText({ ...common, messages })).text];
  },
  async stream() {
    return piecesOf(streamText({ ...common, prompt: a.SAY_SUNNY }));
  },
  async tools() {
    const asked = { ...common, tools, prompt: a.CALL_WEATHER, stopWhen: stepCountIs(3) };
    return [(await generateText(asked)).text, (await piecesOf(streamText(asked))).join("")];
  },
  async structured() {
    const asked = { ...common, prompt: a.FILL_IN, output: Output.object({ schema: a.Verdict }) };
    const streamed = streamText(asked);
    await piecesOf(streamed);
    return [(await generateText(asked)).output, await streamed.output];
  },
});
