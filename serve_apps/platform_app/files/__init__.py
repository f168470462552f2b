"""`/v1/files` and `/v1/uploads`: what clients upload and what the other parts write for them."""
