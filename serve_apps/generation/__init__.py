"""What an API request becomes before an engine runs it: the prompt, its limits, one engine request per choice."""
