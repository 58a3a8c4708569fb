"""The requirements of RFC 9110 in docs/protocols.md, on every server and way of sending."""
