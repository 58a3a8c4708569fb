"""Storage: files, records and preconditions."""
