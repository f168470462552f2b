"""What replicas and engines measure, as one Prometheus page."""
