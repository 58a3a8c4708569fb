"""Fixtures for plain routes."""

import pytest

from {{cookiecutter.package_name}}.engine.kernel import guard

from ..peer import PATIENCE


@pytest.fixture
def first_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers wait for the first item, even on a busy machine."""
    monkeypatch.setattr(guard, "FIRST_ITEM", PATIENCE)
