"""What is added to any engine from outside: metrics, a time limit, the charging of tokens to API keys."""
