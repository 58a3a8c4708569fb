"""Storage: files, records, and what requests may ask of them first."""
