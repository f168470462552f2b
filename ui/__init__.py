"""The chat page: a Gradio room that talks to OpenAI-compatible endpoints over HTTP, and to nothing else."""
