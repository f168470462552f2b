"""The command `tuneyard`, one file per group of commands, and the demo."""
