"""Storage: immutable files with server-made ids, and a record of each.

* `interface`: the `Storage` protocol, which an object store fits as well as a directory.
* `local`: files in a directory, their records in one SQLite catalogue (`catalogue`), locks
  (`claims`), blocks on their way (`writer`), quota and free space (`room`); `partials`: files
  that arrive in several requests (each a `partial`; `concatenation` puts some together), when
  uploads can be resumed.
* `opening`: checks it, opens it, sweeps it and measures it; `place`: whether its paths still lead
  to what was opened.
* `reading`: from the page cache, or in a thread.
* `callbacks`: what the service does when a file comes or goes.
* `conditional`: what the preconditions of a request ask for; pure functions.
* `records`: what a file is, and what becomes of a client's file name.
* `importing`: `serve import PATH…`.

Routes: `GET /files`, `GET /files/{id}/record`, `DELETE /files/{id}`.
Settings: `APP_STORAGE__…`. Source: RFC 9562 (UUIDv7).
"""

from .callbacks import Callbacks
from .interface import Storage
from .part import Files
from .records import Draft, FileRecord
from .router import StorageDep, file_url
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
]
