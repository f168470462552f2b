"""What Tuneyard changes in transformers.Trainer: the order of rows, the loss of router and pairs, the held-out loss."""
