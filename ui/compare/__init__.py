"""The Compare tab: the same question to several models, and votes between their answers."""
