"""Resumable uploads: the requirements of the protocols, and faults."""
