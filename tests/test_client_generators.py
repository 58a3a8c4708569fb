"""Client generators accept the documents of a generated service, and skip nothing.

They are installed when these tests run: those for Python in their newest versions, those from npm
in versions that also run on older versions of Node.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from answers import MODULES, only
from baking import Bake, Project
from environment import Environment, uv
from running import running
from tools import program

pytestmark = pytest.mark.long

#: Seconds for one run of a program on a busy machine.
PATIENCE = 120
DOCUMENTS = ["full", *MODULES]

#: Routes of an owner, with nested models, in addition to those of the service.
OWNER = """
from collections.abc import AsyncGenerator
from pydantic import BaseModel
from {package}.engine.download import ExportRouter, TransformRouter
from {package}.engine.realtime import RunRouter
from {package}.engine.upload import IngestRouter

exports, ingest, runs, transforms = ExportRouter(), IngestRouter(), RunRouter(), TransformRouter()

class RowError(BaseModel):
    pointer: str

class Order(BaseModel):
    parts: "list[Order]" = []
    errors: list[RowError] = []

@exports.export("/orders")
async def orders() -> AsyncGenerator[Order]:
    yield Order()

@ingest.ingest("/orders")
async def take_orders(rows: list[Order]) -> None: ...

@runs.run("/orders/check")
async def check(order: Order, found: RowError | None = None) -> AsyncGenerator[str]:
    yield ""

@transforms.transform("/orders/pack", takes="application/zip", gives="image/png")
async def pack(body) -> AsyncGenerator[bytes]:
    yield b""

@app.get("/orders/stream")
async def stream_orders() -> AsyncGenerator[Order]:
    yield Order()

for router in (exports, ingest, runs, transforms):
    app.include_router(router)
"""
WRITE = """
import json
from pathlib import Path
from {package}.app import create_app
from {package}.engine.openapi import with_item_schemas
app = create_app()
{routes}
document = app.openapi()
Path("{path}").write_text(json.dumps(document), "utf-8")
Path("{path}-3.2").write_text(json.dumps(with_item_schemas(document)), "utf-8")
"""

#: Uses a client from openapi-python-client with a service.
USE = """
import json, sys
from io import BytesIO
from client import Client
from client.api.download import download_file, transform_gzip
from client.api.files import list_files
from client.api.health import live
from client.api.realtime import publish_event, subscribe
from client.api.upload import ingest_readings, upload_files
from client.models import ListedFile, Reading
from client.types import File

client = Client(sys.argv[1])
assert live.sync_detailed(client=client).status_code == 200
stored = upload_files.sync(client=client, body=File(BytesIO(b"data")), filename="a.bin")
assert (stored.filename, stored.size) == ("a.bin", 4)
assert download_file.sync(stored.id, client=client).payload.read() == b"data"
packed = transform_gzip.sync(client=client, body=File(BytesIO(b"data")))
assert packed.payload.read()[:1] == b"\\x1f"
report = ingest_readings.sync(client=client, body=Reading(sensor="a", value=1.5))
assert (report.accepted, report.rejected) == (1, 0)
published = publish_event.sync("topic", client=client, body={"a": 1})
polled = subscribe.sync("topic", client=client, poll=1.0, last_event_id_query="0-0")
assert polled.last_event_id == published.id
with client.get_httpx_client().stream(**list_files._get_kwargs()) as response:
    *files, last = map(json.loads, response.iter_lines())
assert [ListedFile.from_dict(each).id for each in files] == [stored.id]
assert last == {"$end": {"count": 1}}
"""


def camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


class Generator(NamedTuple):
    """A generator, and the form of an operation in its output."""

    command: str
    operation: Callable[[str], str]
    #: Operations that it cannot express: it reports them, and leaves them out.
    skips: tuple[str, ...] = ()


GENERATORS = {
    "hey-api": Generator(
        "{bin}/openapi-ts --input {document} --output {out}",
        lambda name: f"export const {camel(name)} = ",
    ),
    "orval": Generator(
        "{bin}/orval --config {configs}/orval.config.mjs",
        lambda name: f"export const {camel(name)} = ",
    ),
    "openapi-typescript": Generator(
        "{bin}/openapi-typescript {document} --output {out}/service.ts",
        lambda name: f"\n    {name}: {{",
    ),
    "openapi-python-client": Generator(
        "{python} -m openapi_python_client generate --path {document} --output-path {out}/client"
        " --meta none --config {configs}/openapi-python-client.yaml",
        lambda name: f"# client/api/{name}.py\n",
        skips=("transform_upper",),  # It sends no text.
    ),
}


@pytest.fixture(scope="module")
def documents(
    full: Project,
    bake_once: Bake,
    environment: Environment,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """The documents of the full service with an owner's routes, and of each module alone."""
    folder = tmp_path_factory.mktemp("documents")
    found = {}
    for name in DOCUMENTS:
        project = full if name == "full" else bake_once(**only(name), auth="none")
        routes = OWNER.format(package=project.package) if name == "full" else ""
        found[name] = folder / f"{name}.json"
        script = WRITE.format(package=project.package, routes=routes, path=found[name].as_posix())
        assert environment.run(project, "python", "-c", script).returncode == 0
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs from npm."""
    npm = program("npm")
    folder = tmp_path_factory.mktemp("generators")
    shutil.copy(Path(__file__).parent / "generators/package.json", folder)
    quiet = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--prefer-offline"]
    subprocess.run([npm, "install", "--loglevel=error", *quiet], cwd=folder, check=True)
    return folder / "node_modules/.bin"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the programs of Python."""
    path = tmp_path_factory.mktemp("python-generators")
    uv("venv", "--quiet", "--clear", f"--python={sys.executable}", str(path))
    packages = ("openapi-python-client", "openapi-spec-validator")
    uv("pip", "install", "--quiet", f"--python={path}", *packages)
    return Environment(path).python


@pytest.fixture(scope="module")
def generate(
    full: Project,
    documents: dict[str, Path],
    programs: Path,
    python: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], tuple[Path, str]]:
    """Run a generator on a document, as documented in protocols.md; return its output.

    Each is run once for each document: several tests look at the same.
    """
    page = (full.path / "docs/protocols.md").read_text("utf-8")
    kept: dict[tuple[str, str], tuple[Path, str]] = {}

    def run(generator: str, name: str) -> tuple[Path, str]:
        if (generator, name) not in kept:
            out = tmp_path_factory.mktemp(generator)
            for config, text in re.findall(r"```\w+ title=(\S+)\n(.*?)```", page, re.DOTALL):
                text = text.replace("http://127.0.0.1:8000/openapi.json", str(documents[name]))
                (out / config).write_text(text.replace("src/service.ts", str(out / "service.ts")))
            command = GENERATORS[generator].command.format(
                bin=programs, python=python, document=documents[name], out=out, configs=out
            )
            done = subprocess.run(
                command.split(), cwd=out, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                encoding="utf-8", timeout=PATIENCE, check=False,
            )  # fmt: skip
            sys.stdout.write(done.stdout)  # pytest shows it when the test fails
            assert done.returncode == 0
            kept[generator, name] = out, done.stdout
        return kept[generator, name]

    return run


def written(out: Path) -> str:
    """Return the output of a generator, each Python module with its name."""
    modules = [f"# client/api/{path.name}\n" for path in out.glob("client/api/*/*.py")]
    return "".join([*modules, *(path.read_text("utf-8") for path in out.rglob("*.ts"))])


def operations_of(document: Path) -> list[str]:
    paths = json.loads(document.read_text("utf-8"))["paths"]
    return [operation["operationId"] for path in paths.values() for operation in path.values()]


@pytest.mark.fault("G33")
@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("generator", GENERATORS)
def test_a_generator_writes_every_operation_that_it_can_express(
    generator: str,
    name: str,
    documents: dict[str, Path],
    generate: Callable[[str, str], tuple[Path, str]],
) -> None:
    out, log = generate(generator, name)

    _, operation, skips = GENERATORS[generator]
    text = written(out)
    missing = [each for each in operations_of(documents[name]) if operation(each) not in text]
    assert missing == [each for each in skips if each in operations_of(documents[name])]
    assert log.count("Endpoint will not be generated") == len(missing)
    assert not re.search(r"(?i)\berrors?\b|failed", log)


@pytest.mark.fault("G33")
def test_what_is_written_in_typescript_is_valid(
    programs: Path, generate: Callable[[str, str], tuple[Path, str]]
) -> None:
    outs = [generate(each, "full")[0] for each in GENERATORS if each != "openapi-python-client"]
    options = (
        "--noEmit --strict --skipLibCheck --target esnext --module esnext"
        " --moduleResolution bundler --lib esnext,dom,dom.iterable"
    )
    files = [str(path) for out in outs for path in out.glob("*.ts")]
    command = [str(programs / "tsc"), *options.split(), *files]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)

    assert (done.returncode, done.stdout) == (0, "")
    assert len(files) >= 3


def test_the_documents_are_valid(documents: dict[str, Path], python: Path) -> None:
    # Each is validated by the version that it contains.
    files = [f"{path}{ending}" for path in documents.values() for ending in ("", "-3.2")]
    command = [str(python), "-m", "openapi_spec_validator", *files]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)

    assert (done.returncode, done.stdout.count(": OK")) == (0, len(files)), done.stdout


@pytest.mark.fault("G33")
def test_a_client_that_was_written_in_python_works(
    full: Project,
    environment: Environment,
    python: Path,
    generate: Callable[[str, str], tuple[Path, str]],
    tmp_path: Path,
) -> None:
    out, _ = generate("openapi-python-client", "full")
    with running(full, environment, tmp_path) as port:
        command = [str(python), "-c", USE, f"http://127.0.0.1:{port}"]
        subprocess.run(command, cwd=out, check=True, timeout=PATIENCE)
