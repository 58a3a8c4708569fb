"""Uploads: raw bodies, forms, rows, and callbacks."""
