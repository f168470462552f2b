"""Checkpoint folders: manifest, validation, publishing, transfer, caching, the registry."""
