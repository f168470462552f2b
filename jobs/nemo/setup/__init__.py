"""What a process needs before it uses NeMo: the fixes, exact arithmetic, the run's seed, enough memory."""
