"""Readers of raw dataset rows, one per file type or service."""
