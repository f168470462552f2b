"""Checks of launcher files and Kubernetes manifests, without a cluster."""
