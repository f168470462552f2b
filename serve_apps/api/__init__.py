"""The OpenAI API of one model: routes, chat, completions."""
