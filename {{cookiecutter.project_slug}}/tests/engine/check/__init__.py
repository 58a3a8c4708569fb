"""Tests of `serve check`."""
