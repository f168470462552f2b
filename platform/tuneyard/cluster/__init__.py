"""Connecting to Ray or starting a private one; submitting and following jobs; the key-value store; the auth token."""
