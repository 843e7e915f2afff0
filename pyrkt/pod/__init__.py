"""Pods: one or more apps that share namespaces and an identity. State is a directory and a lock, nothing else."""
