"""The Runs page: finetuning runs with their curves, configs and data, and the versions that they made."""
