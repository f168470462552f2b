"""The rehearsal of a finetuning run: its own config, on a small model and this machine's CPUs, step by step."""
