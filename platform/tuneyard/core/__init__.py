"""Errors, config loading, paths, atomic writes, ports, Ray resources and the wording of messages."""
