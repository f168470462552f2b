"""NeMo Export-Deploy's Python calls over our engines, and a Triton server."""
