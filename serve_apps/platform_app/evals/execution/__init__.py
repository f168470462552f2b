"""The work of the reconciler on runs: which run has its turn, its rows, and their output items."""
