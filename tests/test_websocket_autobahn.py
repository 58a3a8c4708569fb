"""The Autobahn test suite for WebSockets (RFC 6455) runs against a generated service.

The suite needs Python 2.7, and is installed when it is first run.
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
#: All cases except compression, which is disabled.
CASES = {"cases": ["*"], "exclude-cases": ["12.*", "13.*"], "exclude-agent-cases": {}}
NUMBER_OF_CASES = 301
#: `pip --target` needs this to load the files of zope's namespace.
RUN = "import site; site.addsitedir('{}'); import autobahntestsuite.wstest as it; it.run()"
#: Maximum seconds for all cases on a busy machine.
PATIENCE = 300

#: Behaviour that RFC 6455 allows counts as passed: no response to frames that arrive together with
#: an invalid frame, and detecting invalid UTF-8 only at the end of a message.
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
#: Failures of the WebSocket library, which a newer version may have repaired.
ITS_OWN = {"7.1.5": "closing amid the fragments of a message is an error (1002) to websockets"}
#: Messages with more fragments than the service accepts (docs/protocols.md).
REFUSED = {f"9.{kind}.{size}": 1009 for kind in (3, 4) for size in (1, 2, 3, 4)}


@pytest.fixture
def python() -> str:
    """Python 2.7, from the PATH or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(pyenv.glob("versions/2.7.*/bin/python2.7"))
    return str(found[-1]) if found else program("python2.7")


@pytest.fixture
def suite(python: str) -> Path:
    """The folder with the suite; skips the test if it cannot be installed."""
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
    """The URL of a service that echoes messages."""
    shutil.copy(Path(__file__).with_name("websocket_echo.py"), tmp_path)
    echoing = replace(full, package="websocket_echo")
    # The largest message of the suite.
    with running(echoing, environment, tmp_path, STREAMING__MAX_BODY="16 MiB") as port:
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
