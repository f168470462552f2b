"""The chat page, in Gradio. It talks to OpenAI-compatible endpoints over HTTP and to nothing else."""
