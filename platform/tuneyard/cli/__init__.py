"""The command `tuneyard`, and the demo."""
