"""Tools that generate, build and check the documentation site."""
