"""Download: stored files and generated streams.

* `router`: `GET, HEAD /files/{id}`; `ranges`: the bytes that `Range` selects; `headers`: the
  headers of a response with a file; `file_stream`: sending its bytes, or letting nginx send them.
* `links`: `POST /files/{id}/links`, a signed address of a file, with access control.
* `archive`: `GET, HEAD, POST /archive`, several files as one ZIP; `zip_stream`: its bytes, or a
  range of them; `zip_format`: its headers.
* `exports`: the router for generators of typed rows; `transforms`: the one for request bodies that
  are converted while they arrive.

Settings: `APP_DOWNLOAD__…`, the deadlines of `APP_STREAMING__…`. Sources: RFC 9110, sections 13 to
15; RFC 6266; RFC 8187; RFC 8246 (immutable); RFC 9530; APPNOTE 6.3.10 (ZIP).
"""

from .exports import ExportRouter
from .router import Downloads
from .settings import DownloadSettings
from .transforms import TransformRouter

__all__ = ["DownloadSettings", "Downloads", "ExportRouter", "TransformRouter"]
