"""The figures of docs/figures.md. `python -m tests.bench [train] [serve] [accuracy]`; all of them without arguments."""
