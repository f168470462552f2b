"""The work on a batch in the reconciler: from its validation to its files."""
