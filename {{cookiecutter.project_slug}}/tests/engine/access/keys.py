"""API keys for tests, created as another process would: by a store of their own."""

from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from {{cookiecutter.package_name}}.engine.access.keys import KEY, new_secret
from {{cookiecutter.package_name}}.engine.access.store import KeyStore


class Keys:
    """The keys of the services that use its settings: `serve(access=keys.settings)`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._database = folder / "access.sqlite3"
        self.settings = {"database": self._database, **settings}

    def new(self, owner: str, *grants: str, name: str = "", seconds: float | None = None) -> str:
        """Return a new key; by default with the role `member`, and the name of its owner."""
        secret = new_secret(KEY)
        with closing(self._open()) as store:
            store.add(secret, name or owner, owner, grants or ("member",), seconds)
        return secret

    def revoke(self, name: str) -> None:
        with closing(self._open()) as store:
            assert store.revoke(name)

    def rotate(self, keep_seconds: float) -> None:
        """Sign with a new secret; those replaced more than some seconds ago are not kept."""
        with closing(self._open()) as store:
            store.rotate(keep_seconds)

    def client(self, service: Any, owner: str, *grants: str, name: str = "") -> httpx.AsyncClient:
        """Return a client that sends a new key."""
        client: httpx.AsyncClient = service.client()
        client.headers.update(bearer(self.new(owner, *grants, name=name)))
        return client

    def _open(self) -> KeyStore:
        return KeyStore(self._database, frozenset)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
