"""Types of /v1/responses on the wire."""
