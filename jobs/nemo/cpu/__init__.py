"""NeMo on CPUs, for rehearsals and tests: a replacement of torch.cuda, and the hook that installs it everywhere."""
