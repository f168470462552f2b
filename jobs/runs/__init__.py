"""One finetuning run, step by step, as its driver sees it: preflight, training, export, registration, deployment."""
