"""The address at which clients reach an application, for links in its responses."""

from starlette.datastructures import URL
from starlette.types import Scope


def base_of(scope: Scope) -> str:
    """Return the address of the application, without a slash at its end.

    `APP_SERVER__PUBLIC_URL`, or else the origin of the request and the path at which a proxy or
    another application has mounted this one (`root_path` of ASGI).
    """
    public_url: str | None = scope["app"].state.settings.server.public_url
    root = {**scope, "path": scope.get("root_path") or "/", "query_string": b""}
    return public_url or str(URL(scope=root)).rstrip("/")
