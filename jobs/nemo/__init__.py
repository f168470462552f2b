"""The NeMo training backend and what NeMo needs around it."""
