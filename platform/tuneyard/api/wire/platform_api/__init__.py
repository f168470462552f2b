"""Types of OpenAI's fine-tuning API on the wire: files, uploads, jobs, batches, evals, votes."""
