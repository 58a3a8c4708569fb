"""Object storage that several processes share: a bucket, databases in it, and leases."""
