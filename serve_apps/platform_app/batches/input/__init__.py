"""The input file of a batch: its lines, its requests, and what can be wrong with them."""
