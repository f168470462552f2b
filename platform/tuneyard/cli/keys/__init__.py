"""`tuneyard keys`: API keys, their limits and their usage."""
