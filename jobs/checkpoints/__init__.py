"""Checkpoints written from trained or published ones: the proved export, MXFP4 quantisation, OpenAI's original form."""
