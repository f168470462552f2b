"""Checks of a cluster, a node, a cluster file or a Kubernetes manifest."""
