"""The protocol as uvicorn has it."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as HTTPConnection

__all__ = ["HTTPConnection"]
