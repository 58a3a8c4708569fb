"""Streams: pull and push responses, rows, codings, connections that carry them."""
