"""RFC 9110 and its neighbours, as docs/protocols.md counts them, on every server in every way."""
