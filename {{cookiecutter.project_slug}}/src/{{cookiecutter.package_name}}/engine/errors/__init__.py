"""Errors: one problem document (RFC 9457) for every error, before and after a response has begun.

`documents` has the document, FastAPI's exception handlers, and `GET /problems`, a page for each
type; `ProblemDocuments` adds them to the application. The kernel is responsible for cleanup, aborts
and limits. Sources: RFC 9457; RFC 6901 (JSON Pointer).
"""

from .documents import ProblemDocuments

__all__ = ["ProblemDocuments"]
