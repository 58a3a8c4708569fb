"""Where uploads are, as clients see it."""

from fastapi import Request


def uploads_url(request: Request) -> str:
    """Return the absolute address of `/uploads`: some clients resolve no relative one."""
    base = request.app.state.settings.server.public_url or str(request.base_url)
    return base.rstrip("/") + "/uploads"


def upload_url(request: Request, upload_id: str) -> str:
    return f"{uploads_url(request)}/{upload_id}"
