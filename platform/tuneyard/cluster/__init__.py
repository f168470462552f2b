"""Ray reached or started; jobs submitted and followed; the key-value store; the auth token."""
