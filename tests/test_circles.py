"""The engine has no circle of imports: imports for types and in functions count, too."""

from pathlib import Path

import pytest

from baking import Project
from imports import circle_in, graph_of


def test_the_engine_has_no_circle_of_imports(complete: Project) -> None:
    assert circle_in(complete.src / "engine") == []


@pytest.mark.parametrize(
    "text",
    [
        "from .. import low",
        "from ..low import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import low",
        "def call() -> None:\n    from ..low import name",
    ],
)
def test_a_circle_is_found_wherever_the_import_stands(text: str, tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    for name, content in {
        "__init__": "",
        "low": "from .room import high\nname = 1",
        "room/__init__": "from .beside import other",
        "room/beside": "other = 1",
        "room/high": text,
    }.items():
        (tmp_path / f"{name}.py").write_text(content, "utf-8")

    assert graph_of(tmp_path)["room"] == {"room.beside"}
    assert set(circle_in(tmp_path)) == {"low", "room.high"}

    (tmp_path / "room/high.py").write_text("from .beside import other", "utf-8")
    assert circle_in(tmp_path) == []
