"""Served models asked the questions of a chat file, and their answers scored."""
