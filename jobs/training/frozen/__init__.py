"""The outputs of a model's frozen lower layers, computed once per row and kept for later epochs."""
