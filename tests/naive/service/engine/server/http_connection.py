"""The unchanged protocol of uvicorn."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as HTTPConnection

__all__ = ["HTTPConnection"]
