"""Clients of OpenAI-compatible endpoints over HTTP. Imports no gradio."""
