"""The training backend protocol, the order of rows, batches, and the transformers backend."""
