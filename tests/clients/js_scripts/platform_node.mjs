// openai-node through the fine-tuning API: see python_scripts/platform_python.py, which reports the same.
import fs from "node:fs";
import OpenAI, { toFile } from "openai";

const { BASE_URL, API_KEY, TRAIN_FILE, BASE, SERVED } = process.env;
const client = new OpenAI({ baseURL: BASE_URL, apiKey: API_KEY, maxRetries: 0, timeout: 300_000 });
const pause = () => new Promise((done) => setTimeout(done, 500));
const question = [{ role: "user", content: "Hello" }];
const jsonl = (rows, name) => toFile(Buffer.from(rows.map((row) => JSON.stringify(row) + "\n").join("")), name);

async function all(page) {
  const found = [];
  for await (const one of page) found.push(one);
  return found;
}

async function tune() {
  const file = await client.files.create({ file: fs.createReadStream(TRAIN_FILE), purpose: "fine-tune" });
  const created = await client.fineTuning.jobs.create({
    model: BASE,
    training_file: file.id,
    suffix: "from node",
    seed: 3,
    method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 1, batch_size: 4 } } },
  });
  const path = `/fine_tuning/jobs/${created.id}/events`;
  const events = [];
  for await (const event of await client.get(path, { query: { stream: true }, stream: true })) events.push(event);
  const job = await client.fineTuning.jobs.retrieve(created.id);
  const checkpoints = await all(client.fineTuning.jobs.checkpoints.list(job.id));
  const listed = await all(client.fineTuning.jobs.listEvents(job.id, { limit: 2 }));
  const model = job.fine_tuned_model;
  const answer = await client.chat.completions.create({ model, messages: question, max_tokens: 8 });
  let streamed = 0;
  for await (const chunk of await client.chat.completions.create({ model, messages: question, max_tokens: 8, stream: true }))
    streamed += chunk.choices.length;
  const models = (await all(client.models.list())).map((one) => one.id);
  const { deleted } = await client.models.delete(model);
  return {
    statuses: [created.status, job.status],
    error: job.error,
    model,
    events: events.map((event) => event.id),
    last: events.at(-1).message,
    steps: events.filter((event) => event.type === "metrics").map((event) => event.data.step),
    listed: listed.map((event) => event.id),
    table: (await (await client.files.content(job.result_files[0])).text()).trim().split("\n"),
    checkpoints: checkpoints.map((one) => [one.step_number, one.fine_tuned_model_checkpoint]),
    answer: [answer.model, answer.usage.completion_tokens, streamed],
    models,
    deleted,
  };
}

async function batch() {
  const body = { model: SERVED, messages: question };
  const rows = ["a", "b", "c"].map((custom_id) => ({ custom_id, method: "POST", url: "/v1/chat/completions", body }));
  const input = await client.files.create({ file: await jsonl(rows, "requests.jsonl"), purpose: "batch" });
  let found = await client.batches.create({
    input_file_id: input.id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
    metadata: { by: "test" },
  });
  while (!["completed", "failed", "expired", "cancelled"].includes(found.status)) {
    await pause();
    found = await client.batches.retrieve(found.id);
  }
  const lines = (await (await client.files.content(found.output_file_id)).text()).trim().split("\n").map((line) => JSON.parse(line));
  const answers = lines.map((line) => [line.custom_id, line.response.body.choices[0].message.content]);
  return { status: found.status, counts: found.request_counts, metadata: found.metadata, answers: answers.sort() };
}

async function evaluate() {
  const parent = await client.evals.create({
    name: "says ok",
    data_source_config: { type: "custom", item_schema: { type: "object" }, include_sample_schema: true },
    testing_criteria: [
      { type: "string_check", name: "same", input: "{{ sample.output_text }}", operation: "eq", reference: "{{ item.wanted }}" },
    ],
  });
  const rows = ["ok", "no"].map((wanted) => ({ item: { wanted } }));
  const file = await client.files.create({ file: await jsonl(rows, "rows.jsonl"), purpose: "evals" });
  const data_source = {
    type: "completions",
    model: SERVED,
    source: { type: "file_id", id: file.id },
    input_messages: { type: "template", template: [{ role: "user", content: "Do you want {{ item.wanted }}?" }] },
  };
  let run = await client.evals.runs.create(parent.id, { data_source });
  while (["queued", "in_progress"].includes(run.status)) {
    await pause();
    run = await client.evals.runs.retrieve(run.id, { eval_id: parent.id });
  }
  const items = await all(client.evals.runs.outputItems.list(run.id, { eval_id: parent.id }));
  const { total, passed, failed } = run.result_counts;
  return {
    status: run.status,
    counts: [total, passed, failed],
    items: items.map((item) => [item.datasource_item.wanted, item.results[0].passed, item.sample.output[0].content]),
    deleted: (await client.evals.delete(parent.id)).deleted,
  };
}

async function upload() {
  const content = Buffer.from('{"n": 1}\n{"n": 2}\n');
  const begun = await client.uploads.create({ bytes: content.length, filename: "n.jsonl", mime_type: "text/jsonl", purpose: "evals" });
  const parts = [];
  for (const data of [content.subarray(0, 5), content.subarray(5)])
    parts.push((await client.uploads.parts.create(begun.id, { data: await toFile(data, "part") })).id);
  const done = await client.uploads.complete(begun.id, { part_ids: parts });
  const text = await (await client.files.content(done.file.id)).text();
  return { statuses: [begun.status, done.status], text, deleted: (await client.files.delete(done.file.id)).deleted };
}

const outcome = { upload: await upload(), batch: await batch(), evaluate: await evaluate(), tune: await tune() };
process.stdout.write(JSON.stringify(outcome) + "\n", () => process.exit(0));
