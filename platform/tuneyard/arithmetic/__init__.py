"""How this process' PyTorch computes."""
