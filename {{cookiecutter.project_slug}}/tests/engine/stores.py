"""Where the services of the tests store their files: in a directory, or in S3.

With TEST_STORAGE=moto or TEST_STORAGE=seaweedfs, a prefix in the bucket of such a server takes the
place of each directory, and the services share a Redis. Tests that are marked `local` do not run.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SERVER = os.environ.get("TEST_STORAGE", "")


def start() -> Callable[[], None]:
    """Start the servers, pass services their addresses, and return the function that ends them."""
    servers = import_module(".objects.servers", __package__)
    folder = TemporaryDirectory(ignore_cleanup_errors=True)
    redis = import_module(".redis_server", __package__).RedisServer(Path(folder.name))
    asyncio.run(redis.start())
    # Otherwise each service would read the descriptions of S3 again, for a third of a second.
    session = import_module("botocore.session")
    vars(session)["create_loader"] = cache(session.create_loader)
    os.environ |= servers.ENVIRONMENT
    os.environ["APP_STORAGE__ENDPOINT_URL"] = servers.start(SERVER)
    os.environ["APP_STORAGE__REDIS_URL"] = redis.url

    def end() -> None:
        redis.end()
        folder.cleanup()

    return end


def moved(url: str, folder: Path = Path()) -> str:
    """Return the URL of a store: this one, or that of the prefix in the place of its directory."""
    if not (SERVER and url.startswith("file:")):
        return url
    return f"s3://files/{_prefix(folder / url.removeprefix('file:'))}"


def _prefix(directory: Path) -> str:
    return hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]


def left(directory: Path, *folders: str) -> list[str]:
    """Return the names of files in these folders of a store, in which uploads are in progress.

    In S3, return the ids of uploads of which there are parts, pieces or bytes without a record.
    """
    if not SERVER:
        return sorted(path.name for each in folders for path in (directory / each).iterdir())
    known = {key.split("/")[1] for key in _objects(directory, "files/", "pieces/")}
    return sorted((known | set(_multiparts(directory))) - _recorded(directory))


def traces(directory: Path, file_id: str) -> list[str]:
    """Return the remaining paths of a file, or its keys."""
    if not SERVER:
        found = (path for path in directory.rglob(f"{file_id}*") if path.is_file())
        return [str(path.relative_to(directory)) for path in found]
    keys = [*_objects(directory, ""), *_multiparts(directory)]
    return [key for key in keys if file_id in key]


def quarantined(directory: Path) -> list[bytes]:
    """Return the files that were refused."""
    if not SERVER:
        folder = directory / "quarantine"
        return [path.read_bytes() for path in folder.iterdir()] if folder.exists() else []
    keys = [f"{_prefix(directory)}/{key}" for key in _objects(directory, "quarantine/")]
    with closing(_client()) as s3:
        return [s3.get_object(Bucket="files", Key=key)["Body"].read() for key in keys]


def largest(directory: Path) -> int:
    """Return the stored bytes of the largest file that is being uploaded in one request."""
    if not SERVER:
        return max((path.stat().st_size for path in directory.rglob("*.part")), default=0)
    return max(map(sum, _multiparts(directory).values()), default=0)


def size(directory: Path) -> int:
    """Return the number of bytes in a store, without its reserve."""
    if not SERVER:
        files = (path for path in directory.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files if path.parent.name != "reserve")
    parts = sum(map(sum, _multiparts(directory).values()))
    return parts + sum(_objects(directory, "files/", "pieces/").values())


def received(directory: Path, file_id: str) -> int:
    """Return the stored bytes of an upload, also if it has become a file."""
    if not SERVER:
        part = directory / "uploads" / f"{file_id}.part"
        final = directory / "files" / file_id[-2:] / file_id
        return (part if part.exists() else final).stat().st_size
    whole = _objects(directory, f"files/{file_id}").get(f"files/{file_id}", 0)
    end = whole + sum(_multiparts(directory).get(file_id, []))
    for key, length in _objects(directory, f"pieces/{file_id}/").items():
        if int(key.rpartition("/")[2].partition(".")[0]) == end:
            end += length
    return end


def _client() -> Any:
    servers = import_module(".objects.servers", __package__)
    return servers.client(os.environ["APP_STORAGE__ENDPOINT_URL"])


def _objects(directory: Path, *folders: str) -> dict[str, int]:
    """Return the keys of objects, without the prefix, and their sizes."""
    found, prefix = {}, f"{_prefix(directory)}/"
    with closing(_client()) as s3:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket="files", Prefix=prefix):
            for each in page.get("Contents", []):
                found[each["Key"].removeprefix(prefix)] = each["Size"]
    return {key: size for key, size in found.items() if key.startswith(folders)}


def _multiparts(directory: Path) -> dict[str, list[int]]:
    """Return the ids of files whose parts are being uploaded, and the sizes of the parts."""
    prefix = f"{_prefix(directory)}/files/"
    found: dict[str, list[int]] = {}
    with closing(_client()) as s3:
        for page in s3.get_paginator("list_multipart_uploads").paginate(
            Bucket="files", Prefix=prefix
        ):
            for each in page.get("Uploads", []):
                if each["Key"].startswith(prefix):
                    sizes = found.setdefault(each["Key"].removeprefix(prefix), [])
                    # It may end in this moment.
                    with suppress(s3.exceptions.NoSuchUpload):
                        sizes += _sizes(s3, each)
    return found


def _sizes(s3: Any, upload: dict[str, Any]) -> list[int]:
    where = {"Bucket": "files", "Key": upload["Key"], "UploadId": upload["UploadId"]}
    pages = s3.get_paginator("list_parts").paginate(**where)
    return [part["Size"] for page in pages for part in page.get("Parts", [])]


def _recorded(directory: Path) -> set[str]:
    """Return the ids of the files in the catalogue of a bucket."""
    s3 = import_module("{{cookiecutter.package_name}}.engine.storage.s3.catalogue")
    url = f"s3://files/{_prefix(directory)}"
    bucket = s3.Bucket(url, os.environ["APP_STORAGE__ENDPOINT_URL"])
    catalogue = s3.SharedCatalogue(bucket, None)
    with closing(catalogue.database), closing(catalogue._reader) as copy:
        return {file_id for (file_id,) in copy.execute("SELECT id FROM files")}
