"""Scopes of topics, owners of runs and of the events of files."""
