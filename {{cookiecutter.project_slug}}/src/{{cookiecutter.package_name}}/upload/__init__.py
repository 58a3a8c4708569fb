"""Upload: request bodies of any size into storage, as they arrive.

* `router`: `POST /files`, the raw body of one file, or a form of several (`multipart`).
* `descriptions`: what the headers say of it: name, type, digests; `types`: what its bytes say.
* `ingest`: `POST /ingest/{name}`, rows that are handled as they arrive.
* `uploads`: `/uploads`, for uploads that can be resumed, by `tus` or the IETF's draft
  (`resumable`); `sessions`: one request at a time on each of them.

A file appears when all of it is durable, or never. Settings: `APP_UPLOAD__…`, and the deadlines of
`APP_STREAMING__…`. Sources: RFC 9110, RFC 6266, RFC 7578, RFC 9530, and those of the protocols.
"""

from .router import router
from .types import AllowedTypes

__all__ = ["AllowedTypes", "router"]
