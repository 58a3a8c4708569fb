"""Tests of the bucket, the databases in it, and the leases."""
