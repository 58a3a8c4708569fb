"""The kernel: the code that every request of a service passes through. It is in every project.

* `exchange`: a request, its response, and the outcome of both; `middleware` creates it, and reports
  the outcome at the end.
* `body`: the only reader of request bodies, with its limits; `fields`: header fields.
* `origins`: the names of the service, and the origins of pages that may use it.
* `access`: the sender of a request and its scopes.
* `kernel`: the state that the streams of one application share; `admission` counts the streams,
  `limits` has their settings, `drain` ends them, `watchdog` watches the event loop.
* `threads`: work that must not stop half-way; `part`: the base class of modules; `problem`: errors
  with a type.

Settings: `APP_STREAMING__…`. It imports no other part of the service.
Sources: ASGI 3.0; RFC 9110 (HTTP semantics); RFC 9112 (HTTP/1.1).
"""

from .access import Principal, current_principal, principal_of, public
from .admission import Admission, client_of
from .body import RequestBody, whole_request
from .exchange import StreamAborted
from .kernel import Measure
from .part import Part
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
    "client_of",
    "current_principal",
    "in_thread",
    "principal_of",
    "public",
    "whole_request",
]
