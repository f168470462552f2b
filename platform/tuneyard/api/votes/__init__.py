"""Votes on answers: win rates with their interval, and rows of training data."""
