"""How model answers are scored: templates, samples, string checks, text similarity, formulas. Pure functions."""
