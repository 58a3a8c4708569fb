"""Pages of other origins: which of them may use the service, and see what its headers say.

Outside of everything else, so that a refusal carries the headers too: without them a page is told
of a network error, whatever went wrong. Source: the Fetch standard, section 3.3 (CORS protocol).
"""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from .settings import CorsSettings

#: What a page may read beside the headers that every page may.
EXPOSED = [
    "Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Location", "Content-Range",
    "ETag", "Location", "Repr-Digest", "Retry-After", "Tus-Checksum-Algorithm", "Tus-Extension",
    "Tus-Max-Size", "Tus-Resumable", "Tus-Version", "Upload-Complete", "Upload-Concat",
    "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Limit", "Upload-Metadata",
    "Upload-Offset", "X-Request-ID",
]  # fmt: skip


def install(app: FastAPI, settings: CorsSettings) -> None:
    """Let the pages of the settings' origins use `app`; none, without any."""
    origins = [origin.strip().rstrip("/") for origin in settings.origins.split(",")]
    if any(origins):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=86400,
        )
