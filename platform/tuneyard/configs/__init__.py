"""Every field of a finetuning run, a deployment and an engine."""
