"""Rules that the messages of every chat follow, in datasets and in requests."""
