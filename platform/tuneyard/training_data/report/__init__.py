"""What a run notes down about its data: statistics of the rendered rows, and the tokens of the first ones."""
