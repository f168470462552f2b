"""The OpenAI API of one model: its services and their routes."""
