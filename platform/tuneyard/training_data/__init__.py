"""Dataset checks and statistics, packing, and the token table that training reads."""
