"""Upload: request bodies of any size, written to storage as they arrive.

* `router`: `POST /files`, for the raw body of one file or a form of several.
* `metadata`: name, owner and media type of a file, and the types that are allowed.
* `forms`: the files of a form; `multipart`: the parser of forms.
* `ingest`: the router for functions that take typed rows; `rows`: the parser of rows.
* `resumable`: `/uploads`, for resumable uploads.

A file becomes visible only when all of it is durable. Settings: `APP_UPLOAD__…`, and the
deadlines of `APP_STREAMING__…`. Sources: RFC 9110, RFC 6266, RFC 7578, RFC 9530.
"""

from .ingest import IngestRouter
from .router import Uploads
from .settings import UploadSettings

__all__ = ["IngestRouter", "UploadSettings", "Uploads"]
