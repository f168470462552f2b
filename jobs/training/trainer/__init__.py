"""What Tuneyard changes in transformers.Trainer: the order of rows, the router's loss, the held-out loss."""
