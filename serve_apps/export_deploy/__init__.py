"""NeMo Export-Deploy's Python classes on Tuneyard's engines, and a Triton server."""
