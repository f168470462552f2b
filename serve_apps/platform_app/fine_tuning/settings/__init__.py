"""What a job trains with: its base, its hyperparameters, its files, the config of its run."""
