"""Observability: the log, metrics, traces and health."""
