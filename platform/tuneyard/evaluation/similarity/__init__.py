"""Measures of how similar a text is to a reference: rapidfuzz's fuzzy match, BLEU, GLEU, METEOR and ROUGE."""
