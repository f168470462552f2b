"""Trained checkpoints to published ones: the proved export, MXFP4, OpenAI's original form."""
