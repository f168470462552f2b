"""The README's figures. `python -m tests.bench [train] [serve] [accuracy]`; all of them without arguments."""
