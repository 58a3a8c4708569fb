"""Streams: bodies in chunks, in both directions. Projects with any module that streams have it.

* `pull` and `push`: the two ways to send. The response iterates a source, or others write to it.
* `rows`: rows in batches; JSON Lines with an end marker.
* `codings`: compression that keeps nothing back, by `Accept-Encoding`.
* `content`: what a request says of its body; `digests`: its integrity.
* `file_parts`: parts of open files as chunks, without a copy where the server takes them so.

Sources: ASGI 3.0; RFC 9110 (HTTP semantics); RFC 9530 (digests).
"""

from .codings import Gzip
from .content import refuse_coding, require_text
from .pull import ByteStream
from .rows import JsonLines

__all__ = ["ByteStream", "Gzip", "JsonLines", "refuse_coding", "require_text"]
