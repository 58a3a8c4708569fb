"""The code of a project's docs/chat.md runs with a generated service, and with real clients."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from answers import REPOSITORY, only
from baking import TEMPLATE_FOLDER, Bake, Project
from environment import Environment, environment_for
from running import LINK, started
from tools import program

PAGE = (REPOSITORY / TEMPLATE_FOLDER / "docs/chat.md").read_text("utf-8")
#: The packages of the page.
PYTHON = ["langchain-openai", "openai"]
NPM = ["@ag-ui/client", "@ai-sdk/react", "@types/node", "@types/react", "ai", "react", "typescript"]
#: The lines between two functions.
NEXT = "\n\n\n"
#: Maximum seconds to wait on a busy machine.
PATIENCE = 60
TEXT = "Hello there"
TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


class Chat(NamedTuple):
    """A service with a chat, and a key of it."""

    port: int
    key: str

    def ask(self, text: str, **members: object) -> tuple[int, Any]:
        """Return the status and the document of a chat completion."""
        body = {"model": "echo", "messages": [{"role": "user", "content": text}], **members}
        fields = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), fields)
            response = connection.getresponse()
            return response.status, json.load(response)

    def filled(self, code: str) -> str:
        """Return code of the page with the address and a key of this service."""
        return code.replace(":8000", f":{self.port}").replace("sk_…", self.key)


def block(language: str, beginning: str) -> str:
    """Return the only block of the page in a language with this beginning."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [text for text in blocks if text.startswith(beginning)]
    return found


def asks_a_provider(project: Project) -> None:
    """Replace the stand-in of a project by the provider of the page."""
    code = block("python", "# provider.py\n").partition("\n")[2]
    (project.src / "provider.py").write_text(code, "utf-8")
    chat = project.src / "chat.py"
    body = block("python", "# chat.py\n").partition("\n")[2]
    head, mark, rest = chat.read_text("utf-8").partition("    # YOUR MODEL")
    assert mark
    text = f"{head}{body.rstrip()}{NEXT}{rest.partition(NEXT)[2]}"
    for name in ("asyncio", "json", "secrets"):
        text = text.replace(f"import {name}\n", "")
    text = text.replace("AsyncGenerator\n", "AsyncGenerator\nfrom contextlib import aclosing\n", 1)
    text = re.sub(r"^    (Text|ToolCall|Usage|text_of),\n", "", text, flags=re.MULTILINE)
    text = text.replace("\nrouter = ", "from .provider import generate\n\nrouter = ", 1)
    chat.write_text(text, "utf-8")


@pytest.fixture(scope="module")
def projects(bake_once: Bake) -> tuple[Project, Project]:
    """A project with the stand-in, and one with the provider."""
    answers = only("use_realtime", "use_error_handling") | {"use_chat": True}
    first, second = bake_once(**answers), bake_once(**answers)
    asks_a_provider(second)
    return first, second


@pytest.fixture(scope="module")
def clients(projects: tuple[Project, Project]) -> Environment:
    """An environment with the packages that the page requires."""
    development = projects[0].metadata["dependency-groups"]["dev"]
    return environment_for(projects[0], [*development, *PYTHON])


@pytest.fixture(scope="module")
def service(
    projects: tuple[Project, Project],
    clients: Environment,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Chat]:
    """The service with the stand-in."""
    with started(projects[0], clients, tmp_path_factory.mktemp("service"), LINK) as running:
        yield Chat(running.port, running.line.partition("key=")[2])


@pytest.fixture
def relay(
    projects: tuple[Project, Project],
    service: Chat,
    clients: Environment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Chat]:
    """A service whose provider is the other one."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{service.port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", service.key)
    with started(projects[1], clients, tmp_path, LINK) as running:
        yield Chat(running.port, running.line.partition("key=")[2])


def output_of(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("package", ["openai", "langchain_openai"])
def test_the_python_clients_of_the_page_print_a_reply(
    package: str, service: Chat, clients: Environment, tmp_path: Path
) -> None:
    code = service.filled(block("python", f"from {package} "))

    assert output_of(clients.python, "-c", code, cwd=tmp_path) == TEXT


def test_a_request_that_is_repeated_with_its_key_gets_the_same_reply(
    service: Chat, clients: Environment, tmp_path: Path
) -> None:
    head, plain, loop = re.split(
        "^(?=stream = |for )", block("python", "from openai "), flags=re.MULTILINE
    )
    repeated = block("python", "stream = ")
    assert repeated.startswith(plain.removesuffix(")\n"))
    loop += "print(chunk.id)\n"
    first, second = output_of(
        clients.python, "-c", service.filled(f"{head}{repeated}{loop}" * 2), cwd=tmp_path
    ).splitlines()

    assert first == second
    assert first.startswith(TEXT)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the npm packages of the page."""
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    quiet = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]
    npm = program("npm")
    subprocess.run([npm, "install", "--loglevel=error", *quiet, *NPM], cwd=folder, check=True)
    return folder


def test_the_agent_of_the_page_prints_a_reply(service: Chat, modules: Path) -> None:
    (modules / "agent.mjs").write_text(service.filled(block("js", "import { HttpAgent }")), "utf-8")

    assert output_of(program("node"), "agent.mjs", cwd=modules) == TEXT


def test_the_component_of_the_page_is_typed(modules: Path) -> None:
    (modules / "conversation.tsx").write_text(block("tsx", "import { useChat }"), "utf-8")
    compiler = modules / "node_modules/typescript/bin/tsc"
    options = ["--noEmit", "--strict", "--skipLibCheck", "--jsx", "react-jsx"]
    options += ["--module", "esnext", "--moduleResolution", "bundler", "--target", "esnext"]

    assert output_of(program("node"), compiler, *options, "conversation.tsx", cwd=modules) == ""


def test_the_provider_of_the_page_passes_texts_and_usage_on(relay: Chat, service: Chat) -> None:
    options = {"temperature": 0.5, "unknown": 1}  # The client has no such parameter.
    _, direct = service.ask(TEXT, **options)
    status, relayed = relay.ask(TEXT, **options)

    assert status == 200
    assert relayed["choices"] == direct["choices"]
    assert relayed["usage"] == direct["usage"]
    assert relayed["choices"][0]["message"]["content"] == TEXT


def test_the_provider_of_the_page_passes_calls_of_tools_on(relay: Chat) -> None:
    status, document = relay.ask("the clock", tools=[TOOL])
    (choice,) = document["choices"]
    (call,) = choice["message"]["tool_calls"]

    assert (status, choice["finish_reason"]) == (200, "tool_calls")
    assert call["function"]["name"] == "clock"
    assert json.loads(call["function"]["arguments"]) == {"input": "the clock"}


def test_a_provider_that_does_not_respond_is_a_problem(
    projects: tuple[Project, Project],
    clients: Environment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with started(projects[1], clients, tmp_path, LINK) as running:
        chat = Chat(running.port, running.line.partition("key=")[2])
        status, document = chat.ask(TEXT)

    assert status == 502
    assert "The model does not respond." in json.dumps(document)


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "src"),
        ("ruff", "format", "--check", "src"),
        ("mypy", "--no-incremental", "src"),
    ],
)
def test_the_code_of_the_page_passes_the_checks_of_the_project(
    command: tuple[str, ...], projects: tuple[Project, Project], clients: Environment
) -> None:
    assert clients.run(projects[1], *command).returncode == 0
