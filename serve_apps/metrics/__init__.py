"""The metrics of all replicas as one Prometheus page."""
