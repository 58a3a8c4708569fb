"""The servers that send files, their commands, and the files."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from servers import HERE, Command, Tools, Variant, nginx, uvicorn

#: The storage directory of the service; all servers send its files.
STORE = "store"
SMALL, SMALL_FILES = 4 << 10, 500
#: The part of the large file for slow servers, which would take minutes for all of it.
SHARE = 32
BLOCK = 1 << 20

FILES = ("large", "slow", "small")


@dataclass(frozen=True)
class Download(Variant):
    """One way of sending from one server."""

    path: str
    """Where a file is: of its `id`, or of its `path` in our store."""
    kinds: tuple[str, ...] = FILES
    """Of which scenarios it can be asked."""
    share: int = 1
    """It sends only one in so many bytes."""


@dataclass(frozen=True)
class File:
    """A file in the store."""

    id: str
    path: Path


@dataclass(frozen=True)
class Store:
    """The stored files."""

    directory: Path
    large: File
    part: File
    """As long as the large one divided by SHARE."""
    small: list[File]

    def address(self, variant: Download, file: File) -> str:
        return variant.path.format(id=file.id, path=file.path.relative_to(self.directory))

    def warm(self) -> None:
        """Read all files, so that they are in the page cache."""
        buffer = bytearray(BLOCK)
        for file in (self.large, self.part, *self.small):
            with file.path.open("rb", buffering=0) as source:
                while source.readinto(buffer):
                    pass


@cache
def stored(tools: Tools, size: int, files: int) -> Store:
    """Store a large file of `size` bytes and a number of small ones in the service."""
    directory = tools.directory / STORE
    made = tools.directory / "made"
    made.mkdir()
    sizes = {"large": size, "part": size // SHARE}
    sizes |= {f"small-{number}": SMALL for number in range(files)}
    for name, length in sizes.items():
        with (made / name).open("wb") as file:
            for start in range(0, length, BLOCK):
                file.write(os.urandom(min(BLOCK, length - start)))
    done = subprocess.run(
        [tools.python, "-m", tools.package, "import", *(str(made / name) for name in sizes)],
        env={**os.environ, **tools.variables(directory)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    for name in sizes:
        (made / name).unlink()
    large, part, *small = _imported(directory, done.stdout)
    return Store(directory, large, part, small)


def _imported(directory: Path, output: str) -> Iterator[File]:
    for line in output.splitlines():
        file_id = line.partition(" ")[0]
        (path,) = directory.glob(f"files/*/{file_id}")
        yield File(file_id, path)


def start_ours(tools: Tools, files: Path, port: int, *, way: str) -> Command:
    env = tools.variables(tools.directory / STORE, server__port=str(port))
    return Command([tools.python, str(HERE / "our_service.py"), tools.package, way], files, env)


def start_naive(tools: Tools, files: Path, port: int) -> Command:
    store = str(tools.directory / STORE)
    return uvicorn(tools, "naive_download:app", port, FILES=store)


def start_nginx(tools: Tools, files: Path, port: int) -> Command:
    # The default settings of Debian.
    return nginx(files, port, "sendfile on; tcp_nopush on;", f"root {tools.directory / STORE};")


def start_caddy(tools: Tools, files: Path, port: int) -> Command:
    config = files / "Caddyfile"
    config.write_text(CADDYFILE.format(port=port, root=tools.directory / STORE))
    words = ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)]
    return Command(words, files, {"HOME": str(files), "XDG_CONFIG_HOME": str(files)})


CADDYFILE = """
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{port} {{
    root * {root}
    respond /ping "live"
    file_server
}}
"""

_ours = {way: partial(start_ours, way=way) for way in ("zero-copy", "page-cache", "aiofiles")}
_file, _rows = "/{path}", ("rows",)

VARIANTS = [
    Download("zero-copy", "ours, zero-copy", _ours["zero-copy"], "/files/{id}", ours=True),
    Download("page-cache", "ours, page cache", _ours["page-cache"], "/files/{id}", ours=True),
    Download("aiofiles", "ours, aiofiles", _ours["aiofiles"], "/files/{id}", ours=True),
    Download("within", "FileResponse in our service", _ours["page-cache"], "/response/{id}"),
    Download("fileresponse", "FastAPI, FileResponse", start_naive, "/response/{path}"),
    Download("stream-64k", "FastAPI, 64 KiB at a time", start_naive, "/stream-64k/{path}"),
    Download(
        "stream-1k", "FastAPI, 1 KiB at a time", start_naive, "/stream-1k/{path}", share=SHARE
    ),
    Download("nginx", "nginx, sendfile", start_nginx, _file, ping="/ping", program="nginx"),
    Download("caddy", "Caddy", start_caddy, _file, ping="/ping", program="caddy"),
    Download(
        "rows", "ours, JSON Lines", _ours["zero-copy"], "/exports/benchmark", _rows, ours=True
    ),
    Download("yield", "FastAPI, yield of a model", start_naive, "/rows", _rows, share=SHARE),
]
