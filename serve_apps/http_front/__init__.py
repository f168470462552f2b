"""What every HTTP application here shares: middleware, admission, bodies, events, errors."""
