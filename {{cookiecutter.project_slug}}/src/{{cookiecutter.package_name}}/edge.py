"""The edge: what every answer has, whoever gives it.

Pages of other origins: which of them may use the service, and see what its headers say. Outside of
everything else, so that a refusal carries the headers too: without them a page is told of a network
error, whatever went wrong. Source: the Fetch standard, section 3.3 (CORS protocol).
"""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from .settings import Settings
from .streaming import ExchangeMiddleware, Kernel

#: What a page may read beside the headers that every page may.
EXPOSED = [
    "Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Location", "Content-Range",
    "ETag", "Location", "Repr-Digest", "Retry-After", "Tus-Checksum-Algorithm", "Tus-Extension",
    "Tus-Max-Size", "Tus-Resumable", "Tus-Version", "Upload-Complete", "Upload-Concat",
    "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Limit", "Upload-Metadata",
    "Upload-Offset", "X-Request-ID",
]  # fmt: skip


def install(app: FastAPI, kernel: Kernel, settings: Settings) -> None:
    """Wrap `app`, innermost first, in the kernel and in the rules for pages of other origins."""
    kernel.headers.append((b"x-content-type-options", b"nosniff"))
    app.add_middleware(ExchangeMiddleware, kernel=kernel)
    origins = [origin.strip().rstrip("/") for origin in settings.cors.origins.split(",")]
    if any(origins):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=86400,
        )
