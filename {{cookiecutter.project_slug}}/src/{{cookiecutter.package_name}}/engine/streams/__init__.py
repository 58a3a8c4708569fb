"""Streams: bodies in chunks, in both directions. It is in every project with a module that streams.

* `pull`: responses that iterate over a source; `push`: responses to which other tasks write.
  `deadlines` limits the time of each send.
* `rows`: rows in batches; JSON Lines with an end marker.
* `codings`: compression without delay, by `Accept-Encoding`.
* `content`: the headers that describe a body; `digests`: its integrity.
* `file_parts`: parts of open files as chunks, sent without a copy where the server supports it.

Sources: ASGI 3.0; RFC 9110 (HTTP semantics); RFC 9530 (digests).
"""

from .codings import Gzip
from .content import refuse_coding, require_text
from .pull import ByteStream
from .rows import JsonLines

__all__ = ["ByteStream", "Gzip", "JsonLines", "refuse_coding", "require_text"]
