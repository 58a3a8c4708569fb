"""Storage: immutable files with server-made ids, and a record of each.

* `interface`: the `Storage` protocol, which an object store fits as well as a directory.
* `local`: files in a directory, their records in one SQLite catalogue (`catalogue`), locks
  (`claims`), blocks on their way (`writer`), quota and free space (`room`); `partials`: files
  that arrive in several requests (each a `partial`; `concatenation` puts some together), when
  uploads can be resumed.
* `opening`: opens it, and sweeps it; `place`: whether its paths still lead to what was opened.
* `reading`: from the page cache, or in a thread.
* `callbacks`: what the service does when a file comes or goes.
* `conditional`: what the preconditions of a request ask for; pure functions.
* `records`: what a file is; `names`: what becomes of a client's file name.
* `importing`: `serve import PATH…`; `check`: whether the directory can be a store at all.

Routes: `GET /files`, `GET /files/{id}/record`, `DELETE /files/{id}`.
Settings: `APP_STORAGE__…`. Source: RFC 9562 (UUIDv7).
"""

from .check import check_storage
from .importing import import_files
from .interface import OpenFile, Storage, Writer
from .opening import open_storage
from .records import Draft, FileId, FileRecord
from .router import StorageDep, StoredFile, file_url, router, storage_of

__all__ = [
    "Draft",
    "FileId",
    "FileRecord",
    "OpenFile",
    "Storage",
    "StorageDep",
    "StoredFile",
    "Writer",
    "check_storage",
    "file_url",
    "import_files",
    "open_storage",
    "router",
    "storage_of",
]
