"""What every HTTP application here shares: middleware, bodies, errors, streams, API keys."""
