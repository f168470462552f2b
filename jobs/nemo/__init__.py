"""The NeMo training backend: recipe, data, checkpoints, export and generation."""
