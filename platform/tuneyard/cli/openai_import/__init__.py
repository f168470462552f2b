"""`tuneyard platform import`: fine-tuning jobs that a person has saved from OpenAI, created again at another API."""
