"""Runs and model versions of the whole cluster, for administrators: from the registry, Ray's jobs and run folders."""
