"""The demo page: a user interface for the service in a browser.

Routes, for GET and HEAD, excluded from the OpenAPI schema:
    /               the page, with a strict Content-Security-Policy
    /web/app.js     its script, which imports the others; served as written, without a build step
    /web/style.css  its style sheet
The files are next to this module and are read once at import. There is one script per part of the
page; page.js has shared functions, access.js the key of the user, requests.js the list of requests,
and stream.js the event streams.
The page reads /openapi.json, and shows only the parts that this service has and the key permits.
"""

from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from ..engine.kernel import public

router = APIRouter(include_in_schema=False)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def _add(path: str, name: str, media_type: str, extra: dict[str, str] | None = None) -> None:
    """Serve one file of this package; browsers revalidate their copy with its ETag."""
    body = files(__name__).joinpath(name).read_bytes()
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", **(extra or {})}

    @public
    async def send(request: Request) -> Response:
        known = ",".join(request.headers.getlist("If-None-Match")).split(",")
        # A proxy that compresses the body changes the ETag to a weak one: W/"...".
        if any(one.strip().removeprefix("W/") in (tag, "*") for one in known):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=media_type)

    router.add_api_route(path, send, methods=["GET"])
    router.add_api_route(path, send, methods=["HEAD"])  # The server omits the body.


_add("/", "index.html", "text/html", {"Content-Security-Policy": _POLICY})
for script in files(__name__).iterdir():
    if script.name.endswith(".js"):
        _add(f"/web/{script.name}", script.name, "text/javascript")
_add("/web/style.css", "style.css", "text/css")
