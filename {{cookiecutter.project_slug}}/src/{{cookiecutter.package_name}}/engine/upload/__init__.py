"""Upload: request bodies of any size into storage, as they arrive.

* `router`: `POST /files`, the raw body of one file; `multipart`: a form of several.
* `form_parser` finds the `parts` of a form.
* `descriptions`: what the headers say of it: name, type, digests; `types`: what its bytes say.
* `ingest`: the router of functions that take `rows` as they arrive; `reports` on them.
* `resumable`: `/uploads`, when uploads can be resumed.

A file appears when all of it is durable, or never. Settings: `APP_UPLOAD__…`, and the deadlines of
`APP_STREAMING__…`. Sources: RFC 9110, RFC 6266, RFC 7578, RFC 9530, and those of the protocols.
"""

from .ingest import IngestRouter
from .router import Uploads
from .settings import UploadSettings

__all__ = ["IngestRouter", "UploadSettings", "Uploads"]
