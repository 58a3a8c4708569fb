"""The pages of a service in a browser: one connection for events, and the policy of the docs."""

import json
import subprocess
from pathlib import Path

from baking import Project
from environment import Environment
from running import running

#: Runs in the same process of pytest as the other tests with this browser.


def test_files_and_topics_are_live_over_one_connection_and_a_run_survives_a_reload(
    full: Project, environment: Environment, node: str, scripts: Path, chromium: str, tmp_path: Path
) -> None:
    with running(full, environment, tmp_path) as port:
        done = subprocess.run(
            [node, str(scripts / "demo_page.mjs"), chromium, f"http://127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            check=True,
            timeout=90,
        )

    assert json.loads(done.stdout) == {
        "messages": ["first", "second"],
        "streams": ["/topics/files,a,b/events"],
        "errors": [],
    }


def test_the_documentation_of_the_api_runs_under_its_policy_and_nothing_else_does(
    full: Project, environment: Environment, node: str, scripts: Path, chromium: str, tmp_path: Path
) -> None:
    with running(full, environment, tmp_path) as port:
        done = subprocess.run(
            [node, str(scripts / "docs_pages.mjs"), chromium, f"http://127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            check=True,
            timeout=90,
        )

    expected = {"elsewhere": [], "refused": [], "smuggled": False}
    logo = "img-src https://cdn.redoc.ly/redoc/logo-mini.svg"  # ReDoc works without it.
    assert json.loads(done.stdout) == {
        "/docs": expected,
        "/redoc": {**expected, "refused": [logo]},
    }
