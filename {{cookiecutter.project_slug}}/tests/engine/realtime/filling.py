"""A service that publishes small events itself: `POST /fill`."""

import asyncio

from fastapi import APIRouter

from {{cookiecutter.package_name}} import app
from {{cookiecutter.package_name}}.engine.realtime.messages import Message
from {{cookiecutter.package_name}}.engine.realtime.router import HubDep
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.settings import Settings

router = APIRouter()


@router.post("/fill")
async def fill(hub: HubDep, count: int) -> None:
    """Publish events of 100 bytes on 200 topics."""
    for number in range(count):
        await hub.publish(f"t.{number % 200}", Message(f"{number:0100}"))
        if number % 16 == 0:
            await asyncio.sleep(0)  # Streams send them meanwhile.


def create_app(settings: Settings) -> Service:
    made = app.create_app(settings)
    made.include_router(router)
    return made


if __name__ == "__main__":
    cli.main(create_app, Settings)
