"""The tests of the download module."""
