"""What runs as a Ray job or prepares one: `python -m jobs.<name>`."""
