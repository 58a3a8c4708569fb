"""Errors: one shape for everything that goes wrong, before and after a response has begun.

* `documents`: the problem document of an error (RFC 9457), which the kernel also uses for the
  records that end a stream which fails half-way.
* `handlers`: FastAPI's exception handlers.

`ProblemDocuments` attaches both. Cleanup, aborts and limits are the kernel's and work without this.
Sources: RFC 9457; RFC 6901 (JSON Pointer).
"""

from .handlers import ProblemDocuments

__all__ = ["ProblemDocuments"]
