"""The steps from a ServeConfig to running Serve applications: checks, start, end."""
