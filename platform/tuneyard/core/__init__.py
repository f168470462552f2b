"""Errors, strict configs, the home folder, ports, Ray resources."""
