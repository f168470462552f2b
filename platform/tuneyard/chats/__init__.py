"""Chat messages, the formats of chat files, and reading them row by row."""
