"""Whether loading a checkpoint could run code, read files outside of it, or compute with damaged weights."""
