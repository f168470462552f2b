"""`/v1/fine_tuning/jobs`: jobs as clients see them, and what the reconciler does about them."""
