"""Many models behind one `/v1`."""
