"""The models that fine-tuning jobs made: whose they are, how they are served, and how they are deleted."""
