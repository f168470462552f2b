"""Whether a run or a deployment fits: memory, disk, parallelism, GPUs."""
