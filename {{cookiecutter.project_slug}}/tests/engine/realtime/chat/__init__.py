"""Tests of the formats of a chat."""
