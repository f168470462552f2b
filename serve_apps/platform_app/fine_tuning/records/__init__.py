"""Jobs in the store: their states and every change of them."""
