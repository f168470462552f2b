"""GPU memory of a training run, planned before it starts."""
