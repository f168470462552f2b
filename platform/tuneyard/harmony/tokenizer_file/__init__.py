"""What a checkpoint's tokenizer.json may hold."""
