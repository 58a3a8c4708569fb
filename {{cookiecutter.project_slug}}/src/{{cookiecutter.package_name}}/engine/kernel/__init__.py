"""The kernel: what every request of a service needs. It is in every project.

* `exchange`: one request, its response and their one outcome; `middleware` opens and reports it.
* `body`: the one reader of a request body, with its limits.
* `fields`: header fields that come in several lines.
* `origins`: the names of the service, and the origins of pages that may use it.
* `deadlines`, `drain`, `admission`, `threads`: bounds on time, life, number and blocking work.
* `kernel`: what the streams of one application share; `part`, `problem`, `principal` and
  `measures`: what other rooms fill in.

Settings: `APP_STREAMING__…` (`limits`). It imports no other part of the service.
Sources: ASGI 3.0; RFC 9110 (HTTP semantics); RFC 9112 (HTTP/1.1).
"""

from .admission import Admission
from .body import RequestBody, whole_request
from .measures import Measure
from .outcomes import StreamAborted
from .part import Part
from .principal import Principal, principal_of
from .problem import Problem, ProblemType
from .threads import in_thread

__all__ = [
    "Admission",
    "Measure",
    "Part",
    "Principal",
    "Problem",
    "ProblemType",
    "RequestBody",
    "StreamAborted",
    "in_thread",
    "principal_of",
    "whole_request",
]
