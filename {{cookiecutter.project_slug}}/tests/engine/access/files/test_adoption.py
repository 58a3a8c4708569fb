"""Files from before access control get an owner, and so do imported ones."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.storage import Draft
from {{cookiecutter.package_name}}.engine.storage.part import open_storage
from {{cookiecutter.package_name}}.engine.storage.partials import Partial, open_partials

from ... import stores
from ...service import ServiceProcess, make_settings
from ..keys import Keys

DATA = b"0123456789"


def run(folder: Path, *command: str) -> tuple[int, str]:
    """Run `serve COMMAND…`, and return its exit code and output."""
    arguments = [sys.executable, "-m", "{{cookiecutter.package_name}}", *command]
    url = stores.moved("file:./data", folder)
    environment = {**os.environ, "APP_SERVER__PORT": "0", "APP_STORAGE__URL": url}
    options: Any = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    ended = subprocess.run(arguments, timeout=60, check=False, **options)
    return ended.returncode, ended.stdout + ended.stderr


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *arguments)


async def store_without_owner(folder: Path) -> tuple[str, str]:
    """Store a file and the first bytes of an upload, as without access control."""
    settings = make_settings(storage={"url": f"file:{folder / 'data'}"})
    async with open_storage(settings.storage) as storage:
        async with storage.create(Draft(filename="a.txt")) as writer:
            await writer.write(DATA)
            record = await storage.commit(writer)
        uploads = open_partials(storage, 1)
        upload = Partial(draft=Draft(filename="b.txt"), length=10, completes=True)
        await uploads.add(upload)
        async with uploads.claimed(upload.id), uploads.open(upload, 0) as writer:
            await writer.write(DATA[:4])
    return record.id, upload.id


async def test_the_service_does_not_start_until_its_files_have_an_owner(tmp_path: Path) -> None:
    file_id, upload_id = await store_without_owner(tmp_path)
    code, told = await in_thread(run, tmp_path)
    assert (code, told.count("\n")) == (1, 1)
    assert "`serve keys adopt OWNER`" in told
    assert "APP_STORAGE__URL" in told

    assert await in_thread(run, tmp_path, "keys", "adopt", "alice") == (0, "")

    # A bucket has the keys in its prefix, not in the directory of the files.
    keys = Keys(tmp_path if stores.SERVER else tmp_path / "data")
    async with (
        ServiceProcess(tmp_path) as service,
        keys.client(service, "alice") as alice,
        keys.client(service, "bob") as bob,
    ):
        answers = [await each.get(f"/files/{file_id}/record") for each in (alice, bob)]
        fields = {"Tus-Resumable": "1.0.0", "Upload-Offset": "4"}
        fields["Content-Type"] = "application/offset+octet-stream"
        resumed = [
            await each.patch(f"/uploads/{upload_id}", headers=fields, content=DATA[4:])
            for each in (bob, alice)
        ]
        listing = (await alice.get("/files")).text

    assert [answer.status_code for answer in answers] == [200, 404]
    assert answers[0].json()["owner"] == "alice"
    assert [answer.status_code for answer in resumed] == [404, 204]
    assert upload_id in listing


@pytest.mark.parametrize("of", ["files", "uploads"])
async def test_files_or_uploads_alone_need_an_owner_too(of: str, tmp_path: Path) -> None:
    file_id, _ = await store_without_owner(tmp_path)
    settings = make_settings(
        storage={"url": f"file:{tmp_path / 'data'}"}, access=Keys(tmp_path).settings
    )
    app = create_app(settings)

    def prepare() -> None:
        app.check()
        for part in reversed(app.parts):
            part.prepare(app)

    async with open_storage(settings.storage) as storage:
        if of == "files":
            await storage.catalogue.write("DELETE FROM uploads")
        else:
            await storage.delete(file_id)
    with pytest.raises(SystemExit, match="without an owner"):
        await in_thread(prepare)
    with pytest.raises(SystemExit, match="letters, digits"):
        await in_thread(app.commands["keys"], settings, ["adopt", "../alice"])
    await in_thread(app.commands["keys"], settings, ["adopt", "alice"])
    await in_thread(prepare)


async def test_files_with_an_owner_keep_it(tmp_path: Path) -> None:
    settings = make_settings(
        storage={"url": f"file:{tmp_path / 'data'}"}, access=Keys(tmp_path).settings
    )
    async with open_storage(settings.storage) as storage:
        for owner in ("bob", None):
            async with storage.create(Draft(filename="a.txt", owner=owner)) as writer:
                await storage.commit(writer)
    await in_thread(create_app(settings).commands["keys"], settings, ["adopt", "alice"])
    async with open_storage(settings.storage) as storage:
        assert [record.owner async for _, record in storage.records()] == ["bob", "alice"]


async def test_imported_files_have_an_owner(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(DATA)
    path = str(tmp_path / "a.txt")
    settings = make_settings(
        storage={"url": f"file:{tmp_path / 'data'}"}, access=Keys(tmp_path).settings
    )
    run_import = create_app(settings).commands["import"]

    async def code_of(*arguments: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            await in_thread(run_import, settings, list(arguments))
        return ended.value.code

    for wrong in ([path], ["--owner"], ["--owner", "a/b", path], []):
        assert "serve import --owner NAME PATH" in await code_of(*wrong)
    assert "name at least one file" in await code_of("--owner", "alice")
    assert await code_of("--owner", "alice", path) == 0
    async with open_storage(settings.storage) as storage:
        assert [record.owner async for _, record in storage.records()] == ["alice"]
