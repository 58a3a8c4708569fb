"""Resumable uploads: `/uploads` in two protocols, and `POST /files` with `Upload-Complete`.

* `router`: the routes, and the choice of the protocol.
* `tus`: tus 1.0; `draft`: the IETF draft.
* `sessions`: exclusive access of a request to an upload, appending to it and finishing it.

Settings: those of `ResumableUploadSettings`, as `APP_UPLOAD__…`. Sources: tus resumable upload
protocol 1.0.0; draft-ietf-httpbis-resumable-upload.
"""

from .router import ResumableUploads
from .settings import ResumableUploadSettings

__all__ = ["ResumableUploadSettings", "ResumableUploads"]
