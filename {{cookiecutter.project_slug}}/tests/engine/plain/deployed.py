"""A service with path operations as in FastAPI's documentation, for processes of its own."""

from fastapi import Response, UploadFile

from {{cookiecutter.package_name}} import app
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.settings import Settings

from ..processes import read_settings
from .routes import KINDS, Source


def create_app(settings: Settings | None = None) -> Service:
    made = app.create_app(settings or Settings())
    made.include_router(Source().router())
    for kind in KINDS:  # A source fails once.
        made.include_router(Source(fail_after=2).router(), prefix=f"/failing{kind}")

    @made.post("/json")
    async def of_json(body: dict[str, str]) -> int:
        return len(body)

    @made.post("/file", max_body_size=2 << 30)
    async def of_file(file: UploadFile) -> int:
        return file.size or 0

    @made.get("/malformed")
    async def malformed() -> Response:
        return Response(headers={"Content - Disposition": "attachment"})

    return made


if __name__ == "__main__":
    cli.main(create_app, read_settings)
