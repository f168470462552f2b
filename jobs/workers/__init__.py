"""The Ray Train worker group: its checks, its trainer, and what each worker runs."""
