"""Conversion of GPT-OSS checkpoints between Hugging Face, OpenAI's original format and NeMo 2."""
