"""The model of a run divided among its workers by PyTorch's FSDP2, and its checkpoints."""
