"""Completions from a NeMo checkpoint, before its export."""
