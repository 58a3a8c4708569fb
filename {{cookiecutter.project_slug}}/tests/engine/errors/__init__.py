"""Errors: problem documents and their types."""
