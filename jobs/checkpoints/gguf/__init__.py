"""GGUF files of checkpoints, with the proof that llama.cpp computes what transformers does."""
