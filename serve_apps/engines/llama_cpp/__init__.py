"""The llama.cpp engine: token ids in, token ids out, over the server in the package xllamacpp."""
