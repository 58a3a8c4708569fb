"""`serve check` finds each mistake in several forms, and nothing in similar code without it."""

import re
from pathlib import Path

import pytest

from {{cookiecutter.package_name}}.engine.check import findings, main
from {{cookiecutter.package_name}}.engine.check.rules import RULES

from . import downloads, errors, files, streams

CASES = files.CASES | downloads.CASES | streams.CASES | errors.CASES
IMPORTS = """import asyncio, anyio, aiofiles, collections, httpx, json, math, os, shutil, sqlite3
import subprocess, time
from pathlib import Path
from uuid import UUID, uuid4
from anyio import CancelScope
from fastapi import HTTPException, Request, UploadFile, WebSocket
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
"""


def cases(kind: str) -> list[tuple[str, str]]:
    """Return the trap and the code of each case of a kind."""
    found = []
    for trap, text in CASES.items():
        parts = re.split(r"^# (wrong|right)\n", text, flags=re.MULTILINE)[1:]
        named = zip(parts[::2], parts[1::2], strict=True)
        found += [(trap, code) for name, code in named if name == kind]
    return found


def check(folder: Path, code: str) -> list[str]:
    """Return the findings in a file, without its path."""
    path = folder / "service.py"
    path.write_text(code, "utf-8")
    return [line.removeprefix(f"{path}:") for line in findings([path])]


def traps(folder: Path, code: str) -> set[str]:
    return {line.split()[1] for line in check(folder, IMPORTS + code)}


@pytest.mark.parametrize(("trap", "code"), cases("wrong"))
def test_a_mistake_is_found(trap: str, code: str, tmp_path: Path) -> None:
    assert trap in traps(tmp_path, code)


@pytest.mark.parametrize(("trap", "code"), cases("right"))
def test_similar_code_without_the_mistake_is_not_reported(
    trap: str, code: str, tmp_path: Path
) -> None:
    assert trap not in traps(tmp_path, code)


@pytest.mark.parametrize("kind", ["wrong", "right"])
@pytest.mark.parametrize("trap", [rule.trap for rule in RULES])
def test_every_rule_has_two_cases_of_each_kind(trap: str, kind: str) -> None:
    assert [name for name, _ in cases(kind)].count(trap) >= 2


def test_functions_of_other_files_are_followed(tmp_path: Path) -> None:
    """The finding is in the file of the mistake, and only if the name has one meaning."""
    for name in ("store", "other"):
        (tmp_path / f"{name}.py").write_text(
            "class Store:\n    def load(self): return open('x').read()\n"
            "async def save(target, body):\n    with open(target, 'wb') as file:\n"
            "        file.write(body)\n",
            "utf-8",
        )
    (tmp_path / "routes.py").write_text(
        "from fastapi import Request\nfrom . import store\nfrom .store import Store\n"
        "async def upload(request: Request, found: Store):\n"
        "    await store.save('x', await request.body())\n    found.load()\n",
        "utf-8",
    )
    found = [line.removeprefix(str(tmp_path)).split()[:2] for line in findings(tmp_path.glob("*"))]

    assert ["/routes.py:6:", "U12"] in found
    assert ["/store.py:4:", "U1"] in found
    assert "/other.py:4: U1" not in [" ".join(line) for line in found]


def test_a_finding_has_its_line_the_mistake_and_the_remedy(tmp_path: Path) -> None:
    code = "import time\n\n\nasync def wait():\n    time.sleep(1)\n"

    assert check(tmp_path, code) == [
        "5: U12 `time.sleep` blocks the event loop, and all clients;"
        " use `await in_thread(None, function, …)`"
    ]


@pytest.mark.parametrize(
    ("comment", "count"),
    [("# streaming: ok, only at the start", 0), ("# streaming: ok", 1), ("# noqa", 1)],
)
def test_a_comment_with_a_reason_excludes_its_line(
    comment: str, count: int, tmp_path: Path
) -> None:
    code = f"import time\nasync def wait():\n    time.sleep(1)  {comment}\n"

    assert len(check(tmp_path, code)) == count


def test_a_file_that_is_not_python_is_a_finding(tmp_path: Path) -> None:
    assert check(tmp_path, "def (:\n") == ["1: it cannot be parsed: invalid syntax"]


def test_the_command_prints_its_findings_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text("import time\nasync def wait(): time.sleep(1)\n", "utf-8")
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])

    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path / 'a.py'}:2: U12 ")
    assert ended.value.code == 1


def test_a_service_without_mistakes_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])

    assert capsys.readouterr().out == ""
    assert ended.value.code == 0


def test_a_missing_path_is_reported() -> None:
    with pytest.raises(SystemExit, match=r"not found: nowhere\.py"):
        main(["nowhere.py"])
