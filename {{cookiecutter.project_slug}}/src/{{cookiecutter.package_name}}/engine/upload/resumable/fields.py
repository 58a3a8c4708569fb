"""What the header fields of both protocols have in common, and where uploads are."""

from fastapi import Request

from ...kernel.body import TOO_LARGE
from ...kernel.origins import base_of
from ...kernel.problem import Problem
from ...streams.content import refuse_coding


def uploads_url(request: Request) -> str:
    """Return the absolute address of `/uploads`: some clients resolve no relative one."""
    return base_of(request.scope) + "/uploads"


def check_media_type(request: Request, media_type: str) -> None:
    """Raise Problem 415 for a body that is not what an append is in this protocol."""
    refuse_coding(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != media_type:
        raise Problem(415, f"The bytes come as {media_type}.", headers={"Accept-Patch": media_type})


def room(request: Request, length: int | None) -> int:
    """Return how many bytes an upload can have; raises Problem 413 when that is not enough."""
    limit: int = request.app.state.settings.upload.max_size
    if length is not None and length > limit:
        raise too_large(limit)
    return limit if length is None else length


def too_large(limit: int) -> Problem:
    return Problem(413, f"A file may have at most {limit} bytes.", type=TOO_LARGE, limit=limit)
