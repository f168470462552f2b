"""Checks and statistics of datasets, packing, and the token table and token store that training reads."""
