"""GPU memory and main memory of a training run, planned before it starts."""
