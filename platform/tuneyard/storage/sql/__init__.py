"""One SQL database for what several processes keep: a SQLite file on one node, or PostgreSQL for a cluster."""
