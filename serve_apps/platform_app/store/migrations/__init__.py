"""Alembic's migrations of the store, each part's in a line of its own."""
