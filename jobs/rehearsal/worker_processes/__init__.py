"""The worker processes of a rehearsal: forks of one process that has imported NeMo, one of which is killed."""
