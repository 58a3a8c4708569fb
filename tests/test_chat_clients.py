"""Common clients of chats read the formats of a run: they get all texts exactly, see errors, stop
a generation, continue one after a lost connection or a reload, and never start it twice.

The tests install the newest versions of the clients. Each client does all its scenarios in one
process; every scenario is a test.
"""

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from answers import OPEN
from baking import Bake, Project
from environment import Environment, uv
from line import Line
from running import running, web_site
from texts import TEXTS
from tools import program

pytestmark = pytest.mark.long

#: Maximum seconds for all scenarios of a client on a busy machine.
PATIENCE = 100
BUSY = "The model is busy."
ALL, PARTS = "one two three", "one two "

#: Commands, with fixtures in braces.
NODE = "{node} {chat}/{script}.mjs http://127.0.0.1:{service} {relay} {texts}"
PYTHON = "{python} {chat}/{script}_client.py http://127.0.0.1:{service} {relay} {texts}"
CHROMIUM = NODE + " {chromium} {page}"

#: The results of their scenarios. A number is that of the generations; "closed" means that the
#: generator of the model was closed before its end.
ASKED = ["text", "image_url", "weather"]
CALL, ARGUMENTS = ["call_1", "weather"], '{"city":"Oslo"}'
OPENAI: dict[str, Any] = {
    "stream": [True, "stop", True],
    "whole": [True, "stop", True],
    "stop": "closed",
    "again": ["one", "one", "one", 1],
    "tools": ["I look. ", "tool_calls", *CALL, ARGUMENTS, ASKED],
}
AI_SDK = {
    **OPENAI,
    "stream": [True, "stop", True, []],
    "error": [PARTS, [BUSY]],
    "cut": [True, ALL, "stop", 1],
    "tools": ["I look. ", "tool-calls", *CALL, {"city": "Oslo"}, ASKED],
}
LANGCHAIN = {
    **OPENAI,
    "error": [PARTS, BUSY],
    "tools": ["I look. ", "tool_calls", *CALL, {"city": "Oslo"}, ASKED],
}
OPENAI_PYTHON = {
    **OPENAI,
    "error": [PARTS, BUSY, BUSY],
    "failed": [503, BUSY],
    "cut": ["APIConnectionError", ALL, "stop", 1],
}
USE_CHAT: dict[str, Any] = {
    "stream": [True, "ready", [], []],
    "tools": [
        [
            ["reasoning", "Where?", "done"],
            ["text", "I look. ", "done"],
            ["tool-weather", [{"city": "Oslo"}, {"degrees": -4}], "output-available"],
            ["text", "Cold.", "done"],
        ],
        ["image_url", "text"],
        [],
    ],
    "continue": [[["text"], ["reasoning", "text", "tool-weather", "text"]], []],
    "error": [PARTS, "error", BUSY, []],
    "stop": ["closed", [PARTS, "ready"], [PARTS, "ready"], [], []],
    "reload": [[ALL, "ready"], 204, [ALL, "ready"], 1, []],
    "cut": [[ALL, "ready"], 1, []],
    "again": [["one", "ready"], 1, []],
}


def named(name: str, scenarios: dict[str, Any]) -> dict[str, Any]:
    return {f"{name} {scenario}": result for scenario, result in scenarios.items()}


CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": (
        NODE,
        {
            **OPENAI,
            "error": [PARTS, "APIError", BUSY],
            "failed": [503, True],
            "cut": [True, ALL, "stop", 1],
            "models": "string",
        },
    ),
    "openai.py": (
        PYTHON,
        named("synchronous", OPENAI_PYTHON) | named("asynchronous", OPENAI_PYTHON),
    ),
    "ai_sdk": (NODE, named("openai-compatible", AI_SDK) | named("openai", AI_SDK)),
    "langchain": (NODE, {**LANGCHAIN, "cut": [True, ALL, 1]}),
    "langchain.py": (
        PYTHON,
        {
            **LANGCHAIN,
            "cut": ["OpenAIConnectionError", ALL, 1],
            "again": ["one", "one", 1],
        },
    ),
    "ag_ui": (
        NODE,
        {
            "stream": [True, True, "RUN_STARTED", "RUN_FINISHED", []],
            "tools": [
                [
                    ["reasoning", "Where?"],
                    ["assistant", "I look. ", ARGUMENTS],
                    ["tool", '{"degrees": -4}'],
                    ["assistant", "Cold."],
                ],
                ASKED,
                [],
            ],
            "stop": ["abort", "closed"],
            "error": [PARTS, BUSY, "failed", "RUN_ERROR"],
            "cut": [True, ALL, "RUN_FINISHED", 1],
            "again": ["one", "one", "one", 1],
        },
    ),
    "eventsource": (
        NODE,
        {
            "stream": [True, "complete"],
            "error": [PARTS, "failed", BUSY],
            "stop": [PARTS, "stopped"],
            "cut": [ALL, "complete", 1],
            "ended": [["one"], "complete", 1],
        },
    ),
    "fetch_event_source": (
        CHROMIUM,
        {
            "stream": [True, "complete", 0],
            "error": [PARTS, "failed", BUSY],
            "stop": [PARTS, "stopped"],
            "ended": [[204], [], []],
            "cut": [ALL, "complete", True, 1],
        },
    ),
    "httpx.py": (
        PYTHON,
        {
            "stream": [True, "complete", 0],
            "error": [PARTS, "failed", BUSY],
            "stop": [PARTS, "stopped"],
            "cut": ["RemoteProtocolError", ALL, "complete", 1],
            "ended": [["one"], 204],
            "lines": [True, "end", "complete"],
            "text": True,
        },
    ),
    "use_chat": (CHROMIUM + " ./page.js", {**USE_CHAT, "resume": [[ALL, "ready"], 1]}),
    "use_chat-5": (CHROMIUM + " ./page_5.js", {**USE_CHAT, "resume": None}),
}

#: The place for a provider, and what replaces it.
MODEL = re.compile(r"    # YOUR MODEL.*?(?=\n\n\n)", re.DOTALL)
PLANS = """\
    async for event in plans.follow(messages, tools):
        yield event"""
ROUTES = """

from . import plans

router.include_router(plans.router)
"""


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the scripts, with the packages that they import, and with the pages."""
    folder = tmp_path_factory.mktemp("chat") / "scripts"
    shutil.copytree(Path(__file__).parent / "clients" / "chat", folder)
    npm = program("npm")
    quiet = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]
    subprocess.run([npm, "install", "--loglevel=error", *quiet], cwd=folder, check=True)
    subprocess.run([npm, "run", "--silent", "build"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def node(chat: Path) -> str:
    return program("node")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python interpreter with the clients installed."""
    path = tmp_path_factory.mktemp("python-clients")
    uv("venv", "--quiet", "--clear", f"--python={sys.executable}", str(path))
    packages = ["httpx", "httpx-sse", "langchain-openai", "openai"]
    uv("pip", "install", "--quiet", f"--python={path}", *packages)
    return Environment(path).python


@pytest.fixture(scope="module")
def origin(chat: Path) -> Iterator[str]:
    """A web site with the pages, on another origin than the service."""
    with web_site(chat) as address:
        yield address


@pytest.fixture(scope="module")
def page(origin: str) -> str:
    return f"{origin}/page.html"


@pytest.fixture(scope="module")
def project(bake_once: Bake) -> Project:
    """A project whose model follows the plan in a message."""
    project = bake_once(**OPEN)
    shutil.copy(Path(__file__).parent / "clients" / "chat" / "plans.py", project.src)
    chat = project.src / "chat.py"
    source, count = MODEL.subn(PLANS, chat.read_text("utf-8"))
    assert count == 1
    chat.write_text(source + ROUTES, "utf-8")
    return project


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.json"
    path.write_text(json.dumps([*TEXTS.values()]), "utf-8")
    return path


@pytest.fixture(scope="module")
def service(
    project: Project, environment: Environment, origin: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[int]:  # fmt: skip
    settings = {
        "CORS__ORIGINS": origin,
        "REALTIME__RETRY": "50 ms",
        "REALTIME__MAX_EVENT_SIZE": "1 MiB",  # All texts are in one message.
    }
    with running(project, environment, tmp_path_factory.mktemp("service"), **settings) as port:
        yield port


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, service: int, texts: Path
) -> Callable[[str], dict[str, Any]]:
    """Let a client do its scenarios, and return their results."""

    class Fixtures(dict[str, Any]):
        __missing__ = staticmethod(request.getfixturevalue)

    @functools.cache
    def results_of(client: str) -> dict[str, Any]:
        script = client.partition("-")[0].removesuffix(".py")
        with Line(service, down=True) as relay:
            relay.carry_until(sys.maxsize)
            fixtures = Fixtures(script=script, relay=relay.url)
            words = [word.format_map(fixtures) for word in CLIENTS[client][0].split()]
            return results_printed_by(words, relay)

    return results_of


def results_printed_by(words: list[str], relay: Line) -> dict[str, Any]:
    """Run a client, and cut its connections when it asks for that."""
    results = {}
    with subprocess.Popen(words, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        watch = Timer(PATIENCE, process.kill)
        watch.start()
        for line in process.stdout:
            match json.loads(line):
                case "cut":
                    relay.cut()
                case [name, result]:
                    results[name] = result
        watch.cancel()
    return results


@pytest.mark.parametrize(
    ("client", "scenario"),
    [(client, scenario) for client, (_, results) in CLIENTS.items() for scenario in results],
)
def test_a_client_gets_what_the_model_has_said(
    client: str, scenario: str, results: Callable[[str], dict[str, Any]]
) -> None:
    assert results(client)[scenario] == CLIENTS[client][1][scenario]
