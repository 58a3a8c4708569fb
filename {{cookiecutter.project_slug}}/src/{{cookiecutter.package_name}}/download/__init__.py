"""Download: stored files and generated streams, sent as they are read.

* `router`: `GET, HEAD /files/{id}`; `sending`: how its bytes go; `offload`: when nginx sends them.
* `ranges`: what a Range asks for; a pure function. `integrity`: digests.
* `disposition`: the header fields that make a stranger's file safe to send.
* `archive`: `GET, HEAD /archive`; `zip`: its format.
* `exports`: `GET /exports/{name}`, each a decorated generator of typed rows; `formats`: how rows
  look. `transforms`: `POST /transform/{name}`, each a decorated generator of bytes.

Settings: `APP_DOWNLOAD__…`, the deadlines of `APP_STREAMING__…`. Sources: RFC 9110, sections 13 to
15; RFC 6266; RFC 8187; RFC 8246 (immutable); RFC 9530; APPNOTE 6.3.10 (ZIP).
"""

from .router import router

__all__ = ["router"]
