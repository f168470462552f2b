"""Limits that hold for the requests of one API key."""
