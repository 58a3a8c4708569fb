"""Owners of files and uploads, and signed links."""
