"""No test of this folder may leave a secret in the log of the service."""

from collections.abc import Iterator

import pytest

from {{cookiecutter.package_name}}.engine.access import keys, store


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys and tickets that were created in this process."""
    created: list[str] = []
    new_secret = keys.new_secret

    def recorded(prefix: str) -> str:
        created.append(new_secret(prefix))
        return created[-1]

    monkeypatch.setattr(store, "new_secret", recorded)
    return created


@pytest.fixture(autouse=True)
def _no_secret_in_the_log(secrets: list[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    lines = [
        record.getMessage()
        for when in ("setup", "call")
        for record in caplog.get_records(when)
        if not record.name.startswith("httpx")  # The client's own log.
    ]
    leaked = [line for line in lines if any(secret in line for secret in secrets)]
    assert leaked == []
