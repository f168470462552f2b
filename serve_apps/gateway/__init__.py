"""One `/v1` for many models."""
