"""Child processes for work that would hold this process' interpreter lock, or that must be stopped at a limit."""
