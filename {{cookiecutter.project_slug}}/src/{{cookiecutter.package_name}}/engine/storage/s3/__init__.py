"""The store of a bucket: files in S3-compatible object storage, for one or several processes."""
