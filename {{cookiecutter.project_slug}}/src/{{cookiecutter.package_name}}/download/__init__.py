"""Download: stored files and generated exports, sent as they are read.

* `router`: `GET, HEAD /files/{id}` and `GET /exports/{name}`.
* `ranges`: what a Range asks for; a pure function.
* `disposition`: the header fields that make a stranger's file safe to send; `integrity`: digests.
* `exports`: the registry; a new export is one decorated generator of typed rows.

Settings: the deadlines of `APP_STREAMING__…`. Sources: RFC 9110, sections 13 and 14; RFC 6266;
RFC 8187; RFC 8246 (immutable); RFC 9530.
"""

from .router import router

__all__ = ["router"]
