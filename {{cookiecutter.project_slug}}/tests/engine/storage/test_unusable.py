"""Directories that cannot be used are refused in one line, before the service listens."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from pydantic import ValidationError

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.settings import explain
from {{cookiecutter.package_name}}.engine.storage.records import new_id
from {{cookiecutter.package_name}}.engine.storage.settings import StorageSettings

from ..service import make_settings
from ..test_processes import folder, run  # noqa: F401


def refusal(data: Path) -> str:
    """Return the line with which `serve` ends."""
    service = create_app(make_settings(storage={"url": f"file:{data}"}))
    with pytest.raises(SystemExit) as stopped:
        service.check()
    [line] = str(stopped.value.code).splitlines()
    return line


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A folder on another volume."""
    memory = Path("/dev/shm")  # noqa: S108
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second volume")
    path = Path(mkdtemp(dir=memory))
    yield path
    shutil.rmtree(path)


@pytest.mark.local
@pytest.mark.fault("G20")
@pytest.mark.parametrize("name", ["files", "files/7f", "parts", "quarantine"])
def test_a_folder_on_another_volume_is_refused(tmp_path: Path, volume: Path, name: str) -> None:
    place = tmp_path / "data" / name
    place.parent.mkdir(parents=True)
    place.symlink_to(volume)

    line = refusal(tmp_path / "data")

    assert line.startswith(f"APP_STORAGE__URL: file:{tmp_path / 'data'} cannot be used: ")
    assert name.partition("/")[0] in line
    assert "is on another volume than" in line
    assert not [*tmp_path.rglob("probe-*"), *volume.rglob("probe-*")]


@pytest.mark.local
def test_two_processes_may_start_at_the_same_time(tmp_path: Path) -> None:
    """The other one moves a file through the folders, too."""
    files = tmp_path / "data" / "files"
    files.mkdir(parents=True)
    (files / f"probe-{new_id()}").touch()

    create_app(make_settings(storage={"url": f"file:{tmp_path / 'data'}"})).check()


@pytest.mark.local
@pytest.mark.fault("G20")
@pytest.mark.parametrize("name", [".", "files", "files/7f", "parts"])
def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    place = tmp_path / "data" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"")

    assert f" cannot be used: {place}" in refusal(tmp_path / "data")


@pytest.mark.local
@pytest.mark.fault("G38")
@pytest.mark.parametrize("content", [b"not a database", b"x" * 4096, None])
def test_a_catalogue_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "data").mkdir()
    catalogue = tmp_path / "data" / "catalogue.sqlite3"
    if content is None:
        catalogue.mkdir()
    else:
        catalogue.write_bytes(content)

    assert " cannot be used: " in refusal(tmp_path / "data")


@pytest.mark.local
@pytest.mark.fault("G38")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.slow
def test_it_ends_the_service_in_one_line_with_several_workers_too(
    folder: Path,  # noqa: F811
    workers: str,
) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "catalogue.sqlite3").write_bytes(b"not a database")

    ended = run(folder, WORKERS=workers, STORAGE__URL="file:data")

    assert ended.returncode == 1
    [line] = ended.stdout.splitlines()
    assert line == "APP_STORAGE__URL: file:data cannot be used: file is not a database"


@pytest.mark.local
@pytest.mark.fault("G20")
@pytest.mark.parametrize(
    "url",
    [
        *("file://localhost/srv", "file://data", "file://host.example/srv/data", "file://"),
        *("file:./data?x=1", "file:./data#x", "file:///srv/my%20data", "file:~/data", "file:"),
        *("S3://bucket", "data", "/srv/data", "FILE:data", " file:data"),
    ],
)
def test_an_address_of_anything_but_a_path_is_refused(
    url: str,
) -> None:
    with pytest.raises(ValidationError) as refused:
        make_settings(storage={"url": url})

    [line] = explain(refused.value)
    assert line.startswith(f"APP_STORAGE__URL: {url} is not `file:` and a path, such as ")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        *(("file:data", "data"), ("file:./data", "data"), ("file:/srv/data", "/srv/data")),
        *(("file:///srv/data", "/srv/data"), ("file:../a b~1", "../a b~1")),
        *(("file:100%", "100%"), ("file:größe", "größe"), ("file:C:/data", "C:/data")),
    ],
)
def test_an_address_is_a_path(url: str, path: str) -> None:
    assert StorageSettings(url=url).directory == Path(path)


def test_an_address_has_to_be_text() -> None:
    with pytest.raises(ValidationError):
        StorageSettings.model_validate({"url": 5})
