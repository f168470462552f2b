"""The run at Weights & Biases that gets the metrics of a finetuning run."""
