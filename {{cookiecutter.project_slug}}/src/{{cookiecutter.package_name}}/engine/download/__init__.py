"""Download: stored files and generated streams, sent as they are read.

* `router`: `GET, HEAD /files/{id}`; `sending`: how its bytes go, and when nginx sends them.
* `ranges`: what a Range asks for; a pure function.
* `disposition`: the header fields that make a stranger's file safe to send; digests.
* `archive`: `GET, HEAD /archive`; `zip`: its format.
* `exports`: the router of generators of typed rows; `formats`: how rows look. `transforms`: the
  router of generators of bytes.

Settings: `APP_DOWNLOAD__…`, the deadlines of `APP_STREAMING__…`. Sources: RFC 9110, sections 13 to
15; RFC 6266; RFC 8187; RFC 8246 (immutable); RFC 9530; APPNOTE 6.3.10 (ZIP).
"""

from .exports import ExportRouter
from .router import Downloads
from .settings import DownloadSettings
from .transforms import TransformRouter

__all__ = ["DownloadSettings", "Downloads", "ExportRouter", "TransformRouter"]
