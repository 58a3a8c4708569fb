"""Storage: immutable files with server-generated ids, and a record of each.

* `interface`: the `Storage` protocol, which an object store can implement too, and `Callbacks`.
* `records`: `FileRecord`, ids and file names.
* `base`: the common part of all stores: records (`catalogue`), quotas and callbacks. `partials`
  has the state of unfinished uploads.
* `local`: the store of a directory. Its parts are `writer` (blocks of bytes), `reading` (open
  files), `claims` (locks), `place` (whether the directory still exists, is writable and has space)
  and `local_partials` (unfinished uploads).
* `s3`: the store of a bucket, if it was chosen.
* `conditional`: preconditions of requests, as pure functions.
* `part`: opens the store when the service starts; the commands `serve import PATH…` and, with `s3`,
  `serve move FROM TO`.

Routes: `GET /files`, `GET /files/{id}/record`, `DELETE /files/{id}`.
Settings: `APP_STORAGE__…`. Source: RFC 9562 (UUIDv7).
"""

from .interface import Callbacks, Storage
from .part import Files
from .records import Draft, FileRecord
from .router import StorageDep, file_url, seen_record
from .settings import StorageSettings

__all__ = [
    "Callbacks",
    "Draft",
    "FileRecord",
    "Files",
    "Storage",
    "StorageDep",
    "StorageSettings",
    "file_url",
    "seen_record",
]
