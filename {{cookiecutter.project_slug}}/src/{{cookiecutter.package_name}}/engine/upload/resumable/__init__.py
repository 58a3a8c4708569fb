"""Uploads that can be resumed: `/uploads` in two protocols, `POST /files` with `Upload-Complete`.

* `router`: which protocol a request speaks.
* `tus` (with its `checksums`) and `draft`: the header rules of tus 1.0 and of the IETF's draft;
  `fields`: what they have in common.
* `sessions`: who may work on an upload; `session`: appending to it, and making a file of it.

Settings: `APP_UPLOAD__EXPIRE_AFTER`, `APP_UPLOAD__INTERIM_RESPONSES`. Sources: tus resumable upload
protocol 1.0.0; draft-ietf-httpbis-resumable-upload.
"""

from .router import ResumableUploads
from .settings import ResumableUploadSettings

__all__ = ["ResumableUploadSettings", "ResumableUploads"]
