"""Writing a trained transformers model as a Hugging Face checkpoint."""
