"""Uploads: raw bodies, forms, rows, and what is done about files."""
