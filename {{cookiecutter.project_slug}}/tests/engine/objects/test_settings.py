"""Settings that contradict each other are refused in one line, before the service listens."""

from types import SimpleNamespace

import pytest

from {{cookiecutter.package_name}}.engine.storage import Files, StorageSettings


def test_several_processes_without_redis_are_refused() -> None:
    # In a project without events; with events, a broker in memory is refused before.
    server, storage = SimpleNamespace(workers=2), StorageSettings(url="s3://files")

    with pytest.raises(SystemExit) as stopped:
        Files().check(SimpleNamespace(server=server, storage=storage))

    line = "APP_SERVER__WORKERS: several processes need APP_STORAGE__REDIS_URL with S3"
    assert stopped.value.code == line
