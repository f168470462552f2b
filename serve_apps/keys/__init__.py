"""API keys at the door: who may send requests, how many, and what is counted for them."""
