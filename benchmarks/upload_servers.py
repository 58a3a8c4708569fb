"""The servers that receive uploads, and their commands."""

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from servers import HERE, Command, Tools, Variant, nginx, uvicorn

MAX_SIZE = 64 << 30


@dataclass(frozen=True)
class Upload(Variant):
    """A way of uploading to one server."""

    request: str
    path: str
    copies: int = 1
    """How often what is uploaded is written."""


@cache
def node(tools: Tools) -> Path:
    """Install the packages of `tus_server.mjs`."""
    directory = tools.kept / "node"
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "tus_server.mjs"):
        shutil.copy(HERE / name, directory)
    quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(["npm", "install", *quiet], cwd=directory, check=True)
    return directory


def start_ours(tools: Tools, files: Path, port: int) -> Command:
    env = tools.variables(files, server__port=str(port), upload__max_size=str(MAX_SIZE))
    return Command([tools.python, "-m", tools.package], files, env)


def start_naive(tools: Tools, files: Path, port: int) -> Command:
    # Forms are spooled into TMPDIR, on the same file system for all servers.
    env = {"FILES": str(files), "TMPDIR": str(files)}
    return uvicorn(tools, "naive_upload:app", port, **env)


def start_node(tools: Tools, files: Path, port: int) -> Command:
    return Command(["node", "tus_server.mjs", str(port), str(files)], node(tools))


def start_nginx(tools: Tools, files: Path, port: int, *, buffer: str = "16k") -> Command:
    http = f"""
    client_max_body_size 0;
    client_body_buffer_size {buffer};
    client_body_temp_path {files}/incoming;"""
    server = f"""
        root {files}/stored;
        location / {{
            dav_methods PUT;
            create_full_put_path on;
        }}"""
    return nginx(files, port, http, server)


start_large_nginx = partial(start_nginx, buffer="1m")

VARIANTS = [
    Upload("raw", "ours, raw body", start_ours, "raw", "/files", ours=True),
    Upload("tus", "ours, tus PATCH", start_ours, "tus", "/uploads", ours=True),
    Upload("multipart", "ours, multipart", start_ours, "form", "/files", ours=True),
    Upload("discard", "FastAPI, receive and discard", start_naive, "raw", "/discard", copies=0),
    Upload("chunks", "FastAPI, aiofiles write per chunk", start_naive, "raw", "/chunks"),
    Upload("form", "FastAPI, UploadFile and copy", start_naive, "form", "/form", copies=2),
    Upload("tuspyserver", "tuspyserver", start_naive, "tus", "/tus"),
    Upload("node", "@tus/server", start_node, "tus", "/files", ping="/ping", program="npm"),
    Upload("nginx", "nginx, as it comes", start_nginx, "put", "/", ping="/ping", program="nginx"),
    Upload(
        "nginx-1m",
        "nginx, 1 MiB buffer",
        start_large_nginx,
        "put",
        "/",
        ping="/ping",
        program="nginx",
    ),
]
