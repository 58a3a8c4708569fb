"""Uploads that can be resumed: the protocols item by item, and their faults."""
