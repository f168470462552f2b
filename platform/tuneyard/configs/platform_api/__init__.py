"""The section `platform` of a deployment: OpenAI's fine-tuning API."""
