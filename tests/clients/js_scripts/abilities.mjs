// What every client's script is asked, and how it reports: see python_scripts/abilities.py.
import { z } from "zod";

export const BASE_URL = process.env.BASE_URL;
export const API_KEY = process.env.API_KEY;
export const USES_RESPONSES = process.env.ROUTE === "responses";
export const MODEL = "tiny";

export const SAY_HELLO = 'Say "Hello."';
export const SAY_SUNNY = 'Say "Sunny in Oslo."';
export const CALL_WEATHER = 'Call weather with {"city": "Oslo"}.';
export const FILL_IN = 'Fill in {"sunny": true, "wind": 3}.';

export const Verdict = z.object({ sunny: z.boolean(), wind: z.number().int().min(0).max(9) });
export const City = z.object({ city: z.string() });
export const weather = ({ city }) => `sunny, 21 degrees in ${city}`;

// Every ability that is left out is not offered by the client.
export async function report(given) {
  const outcome = {};
  for (const name of ["chat", "stream", "tools", "structured"]) {
    try {
      outcome[name] = given[name] ? await given[name]() : null;
    } catch (error) {
      const details = error?.responseBody ?? error?.cause?.responseBody ?? error?.error ?? "";
      outcome[name] = { error: `${error?.stack ?? error} ${JSON.stringify(details)}` };
    }
  }
  process.stdout.write(JSON.stringify(outcome) + "\n", () => process.exit(0));
}
