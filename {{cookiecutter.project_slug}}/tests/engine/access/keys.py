"""Keys for tests, in the database of a running service."""

from typing import Any

from {{cookiecutter.package_name}}.engine.access.store import KeyStore

from ..service import Service


def store_of(service: Service) -> KeyStore:
    """Return the keys of a service in this process."""
    store: KeyStore = service.app.state.authenticator.store
    return store


def headers_of(
    service: Service, *grants: str, owner: str = "tester", **options: Any
) -> dict[str, str]:
    """Return the header of a new key; `options` are those of `KeyStore.create`."""
    return {"Authorization": f"Bearer {store_of(service).create(owner, grants, **options)}"}
