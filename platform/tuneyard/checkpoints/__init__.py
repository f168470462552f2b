"""Checkpoint folders: manifest, validation, publishing, transfer to object stores, node cache, model registry."""
