"""API keys for tests: of a running service, or by a store of their own, like another process."""

import os
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx

from {{cookiecutter.package_name}}.engine.access.database import LocalDatabase
from {{cookiecutter.package_name}}.engine.access.store import KeyStore
from {{cookiecutter.package_name}}.engine.testing import client_of

from .. import stores
from ..service import Service


class Keys:
    """The keys of the services that use its settings: `serve(access=keys.settings)`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._database, self._data = folder / "access.sqlite3", folder / "data"
        self.settings = {"database": self._database, **settings}

    def new(self, owner: str, *grants: str, name: str = "", seconds: float | None = None) -> str:
        """Return a new key; by default with the role `member`, and the name of its owner."""
        with closing(self._open()) as store:
            return store.create(owner, grants or ("member",), name or owner, seconds)

    def revoke(self, name: str) -> None:
        with closing(self._open()) as store:
            assert store.revoke(name)

    def rotate(self, keep_seconds: float) -> None:
        """Sign with a new secret; those replaced more than some seconds ago are not kept."""
        with closing(self._open()) as store:
            store.rotate(keep_seconds)

    def client(self, service: Any, owner: str, *grants: str, name: str = "") -> httpx.AsyncClient:
        """Return a client that sends a new key."""
        client = without_key(service)
        client.headers.update(bearer(self.new(owner, *grants, name=name)))
        return client

    def _open(self) -> KeyStore:
        if not stores.SERVER:
            return KeyStore(LocalDatabase(self._database), frozenset)
        bucket = import_module("{{cookiecutter.package_name}}.engine.access.bucket")
        url, endpoint = stores.moved(f"file:{self._data}"), os.environ["APP_STORAGE__ENDPOINT_URL"]
        return KeyStore(bucket.BucketDatabase(url, endpoint), frozenset)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def store_of(service: Service) -> KeyStore:
    """Return the keys of a service in this process."""
    store: KeyStore = service.app.state.authenticator.store
    return store


def headers_of(
    service: Service, *grants: str, owner: str = "tester", **options: Any
) -> dict[str, str]:
    """Return the header of a new key; `options` are those of `KeyStore.create`."""
    return {"Authorization": f"Bearer {store_of(service).create(owner, grants, **options)}"}


def without_key(service: Any) -> httpx.AsyncClient:
    """Return a client without a key."""
    return client_of(service.url)
