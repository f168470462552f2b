"""OpenAI's fine-tuning API as a Serve application: files, jobs, batches, evals, votes, and all models, at one `/v1`."""
