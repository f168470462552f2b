"""Training on preference pairs (DPO): its batches, its loss, and the base's log-probabilities that it compares with."""
