"""The Autobahn test suite against the WebSockets that a generated service is run with (RFC 6455).

It needs Python 2.7, and is installed for it when it is first run.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from baking import Project
from environment import KEPT, Environment
from running import running
from tools import program

SUITE = "autobahntestsuite==25.10.1"
#: All but compression, which is off.
CASES = {"cases": ["*"], "exclude-cases": ["12.*", "13.*"], "exclude-agent-cases": {}}
NUMBER_OF_CASES = 301
#: Of the directories of `pip --target` only this reads the files that complete zope's namespace.
RUN = "import site; site.addsitedir('{}'); import autobahntestsuite.wstest as it; it.run()"
#: Seconds for all cases on a busy machine.
PATIENCE = 300

#: What RFC 6455 leaves open counts as passed: not to answer what came in one piece with a frame
#: that fails the connection, and to look for invalid UTF-8 at the end of a message only.
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
#: Failures of the implementation itself, which a newer one may have repaired.
ITS_OWN = {"7.1.5": "closing amid the fragments of a message is an error (1002) to websockets"}
#: Messages in a thousand pieces and more, which the service refuses to collect.
REFUSED = {f"9.{kind}.{size}": 1009 for kind in (3, 4) for size in (1, 2, 3, 4)}


@pytest.fixture
def python() -> str:
    """Python 2.7, also where pyenv has it and it is not on the PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(pyenv.glob("versions/2.7.*/bin/python2.7"))
    return str(found[-1]) if found else program("python2.7")


@pytest.fixture
def suite(python: str) -> Path:
    """The folder with the suite; a Python 2.7 that cannot install it skips the test."""
    kept = KEPT / SUITE
    if not kept.exists():
        unfinished = kept.with_suffix(".unfinished")
        done = subprocess.run(
            [python, "-m", "pip", "install", "--upgrade", "--target", str(unfinished), SUITE],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False,
        )  # fmt: skip
        sys.stdout.write(done.stdout)  # pytest shows it when the test fails
        if done.returncode:
            pytest.skip(f"{python} cannot install {SUITE}")
        unfinished.rename(kept)
    return kept


@pytest.fixture
def echo(full: Project, environment: Environment, tmp_path: Path) -> Iterator[str]:
    """The address of a service that sends back what it gets."""
    shutil.copy(Path(__file__).with_name("websocket_echo.py"), tmp_path)
    with running(replace(full, package="websocket_echo"), environment, tmp_path) as port:
        yield f"ws://127.0.0.1:{port}/echo"


@pytest.mark.platform_only("few machines have Python 2.7")
def test_no_case_of_autobahn_fails_but_those_of_many_fragments(
    python: str, suite: Path, echo: str, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.json"
    servers = [{"agent": "service", "url": echo}]
    spec.write_text(json.dumps({"outdir": "reports", "servers": servers, **CASES}), "utf-8")

    subprocess.run(
        [python, "-E", "-c", RUN.format(suite), "--mode=fuzzingclient", f"--spec={spec}"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, check=True, timeout=PATIENCE,
    )  # fmt: skip

    results = json.loads((tmp_path / "reports" / "index.json").read_text("utf-8"))["service"]
    failed = {
        case: result["remoteCloseCode"]
        for case, result in results.items()
        if not {result["behavior"], result["behaviorClose"]} <= PASSED and case not in ITS_OWN
    }
    assert failed == REFUSED
    assert len(results) == NUMBER_OF_CASES
