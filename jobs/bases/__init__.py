"""Small base models that are built without a model hub."""
