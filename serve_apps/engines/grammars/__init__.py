"""Grammars over a model's tokens, by llguidance: compiled within limits, and followed by an answer."""
