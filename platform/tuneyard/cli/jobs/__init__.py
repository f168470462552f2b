"""`tuneyard jobs`: finetuning runs as Ray jobs, and jobs of a fine-tuning API."""
