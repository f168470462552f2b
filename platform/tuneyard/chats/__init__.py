"""Chat messages, the formats of chat datasets, and reading them row by row."""
