"""The streaming kernel: what every stream of this service needs, once.

* `exchange`: one request, one response, one outcome; `middleware` opens and reports it.
* `pull` and `push`: the two ways to send (we iterate a source; others write to an open response).
* `batches`: rows sent many at once; `jsonl`: JSON Lines with an end marker.
* `codings`: compression that keeps nothing back, by `Accept-Encoding`.
* `body`: the one reader of a request body, with its limits, and the one check of what it says it
  is; `digests`: its integrity.
* `origins`: which requests open a WebSocket, whose pages may send them, and by which name.
* `fields`: header fields that come in several lines; `parameters`: those of one.
* `pages`: parts of files as chunks, without a copy where the server takes them so.
* `deadlines`, `drain`, `admission`, `threads`: bounds on time, on life, on number, on blocking.
* `problem`, `principal`, `measures`, and the slots of `kernel`: where other modules attach.

Settings: `APP_STREAMING__…` (`limits`). It imports no other part of the service.
Sources: ASGI 3.0; RFC 9110 (HTTP semantics); RFC 9112 (HTTP/1.1).
"""

from .admission import Admission
from .body import RequestBody, refuse_coding, require_text, whole_request
from .codings import Gzip
from .jsonl import JsonLines
from .measures import Measure
from .outcomes import StreamAborted
from .part import Part
from .principal import Principal, principal_of
from .problem import Problem, ProblemType
from .pull import ByteStream
from .threads import in_thread

__all__ = [
    "Admission",
    "ByteStream",
    "Gzip",
    "JsonLines",
    "Measure",
    "Part",
    "Principal",
    "Problem",
    "ProblemType",
    "RequestBody",
    "StreamAborted",
    "in_thread",
    "principal_of",
    "refuse_coding",
    "require_text",
    "whole_request",
]
