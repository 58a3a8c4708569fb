"""Upload: request bodies of any size into storage, as they arrive.

* `router`: `POST /files`, the raw body of one file.
* `descriptions`: what the headers say of it: name, type, digests.

A file appears when all of it is durable, or never. Settings: `APP_UPLOAD__MAX_SIZE`, and the
deadlines of `APP_STREAMING__…`. Sources: RFC 9110, sections 8.3 and 8.4; RFC 6266; RFC 9530.
"""

from .router import router

__all__ = ["router"]
