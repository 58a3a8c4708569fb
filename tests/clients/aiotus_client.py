"""aiotus: aiotus_client.py SERVICE FILE FOLDER."""

import asyncio
import sys
from pathlib import Path

import aiohttp  # type: ignore[import-not-found]
from aiotus import core, creation  # type: ignore[import-not-found]
from yarl import URL  # type: ignore[import-not-found]


async def main(service: str, file: Path, folder: Path) -> None:
    kept = folder / "location"
    async with aiohttp.ClientSession() as session:
        with file.open("rb") as source:
            if kept.exists():
                location = URL(kept.read_text())
            else:
                metadata = {"filename": file.name.encode()}
                location = await creation.create(
                    session, URL(f"{service}/uploads"), source, metadata
                )
                kept.write_text(str(location))
            await core.upload_buffer(session, location, source)


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
