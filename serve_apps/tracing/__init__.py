"""Traces of requests: one span per step, with counts and ids and never with text."""
