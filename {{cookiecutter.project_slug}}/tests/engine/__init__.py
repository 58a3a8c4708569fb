"""Tests of the service as its clients see it: a real server on a real socket."""
