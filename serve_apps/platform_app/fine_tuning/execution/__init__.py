"""How the run of a job is executed and watched: Ray's jobs, the registry's records, what clients are told."""
