"""From a ServeConfig to running Serve applications: checks, start, end."""
