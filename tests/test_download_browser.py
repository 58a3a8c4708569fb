"""File names as clients decode them, and downloads in a browser and an HTTP conformance checker."""

import json
import re
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from uv import find_uv_bin

from baking import Project
from downloads import PATIENCE, SOAK, Stored, store
from environment import Environment
from running import running
from tools import program

NAMES = [
    "plain.txt",
    "Größe ½ naïve café.txt",
    "中文 日本語 한국어.tar.gz",
    "\U0001f389 \U0001f468\u200d\U0001f469\u200d\U0001f467.png",
    "עברית عربى.pdf",
    "it's; filename=evil.exe, (1) [2] {3} #4 & 100 %.txt",
    "$HOME ~ `x` !.sh",
    'say "hi".txt',
    "長" * 25 + ".txt",
]
#: Valid characters of names that Chromium replaces: quotes and the joiners of emoji.
NOT_IN_CHROMIUM = re.compile('["\u200d]')
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
)
PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj
trailer<</Size 4/Root 1 0 R>>
"""
SCRIPT = b"<script>document.title = 'ran'</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg">%b</svg>' % SCRIPT
#: Files by name: their bytes, type, and what a tab of Chromium shows.
SHOWN = {
    "sound.wav": (b"", "audio/wav", "plays"),
    "picture.png": (PNG, "image/png", "image"),
    "paper.pdf": (PDF, "application/pdf", "pdf"),
    "text.txt": ("Größe".encode(), "text/plain", "Größe"),
    "notes.md": (SCRIPT, "text/markdown", SCRIPT.decode()),
    "latin.txt": ("Größe".encode("latin-1"), "text/plain", "Größe"),
    "page.html": (SCRIPT, "text/html", "download"),
    "drawing.svg": (SVG, "image/svg+xml", "download"),
    "film.svg": (SVG, "video/svg+xml", "download"),
    "data.xml": (SVG, "text/xml", "download"),
}
RATE = 44_100
WAV = (64 << 20) if SOAK == 1 else (1 << 30)
PLACES = [0.9, 0.05, 0.5, 0.995, 0.25]


@pytest.fixture(scope="module")
def service(
    full: Project, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    with running(full, environment, tmp_path_factory.mktemp("service")) as port:
        yield port


@pytest.fixture(scope="module")
def named(service: int, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stored]:
    """A file with each of the names."""
    path = tmp_path_factory.mktemp("file") / "file"
    path.write_bytes(b"content")
    return {name: store(service, path, name, "text/plain") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_wget_saves_a_file_under_its_name(
    name: str, service: int, named: dict[str, Stored], tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{service}/files/{named[name].id}"
    # Otherwise wget escapes many bytes of UTF-8, such as %80.
    words = ["--content-disposition", "--restrict-file-names=nocontrol", "--no-verbose"]
    subprocess.run([program("wget"), *words, url], cwd=tmp_path, check=True, timeout=PATIENCE)

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"content")]


@pytest.mark.parametrize("name", NAMES)
def test_curl_saves_a_file_under_the_ascii_form_of_its_name(
    name: str, service: int, named: dict[str, Stored], tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{service}/files/{named[name].id}"
    words = ["--silent", "--show-error", "--fail", "-OJ"]
    subprocess.run([program("curl"), *words, url], cwd=tmp_path, check=True, timeout=PATIENCE)

    # It only supports the parameter `filename`, whose value must not contain escapes.
    with urlopen(url, timeout=PATIENCE) as response:
        (plain,) = re.findall(r' filename="([^"]*)"', response.headers["Content-Disposition"])
    assert plain == name or not re.fullmatch(r'[^"%\x7f-\U0010ffff]+', name)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(plain, b"content")]


def test_chromium_saves_files_under_their_names(
    service: int, named: dict[str, Stored], node: str, scripts: Path, chromium: str
) -> None:
    urls = [f"http://127.0.0.1:{service}/files/{each.id}" for each in named.values()]

    saved = output_of(node, str(scripts / "download.mjs"), chromium, *urls)["saved"]

    assert saved == [[NOT_IN_CHROMIUM.sub("_", name), each.digest] for name, each in named.items()]


def test_chromium_seeks_in_a_video(
    service: int, node: str, scripts: Path, chromium: str, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    duration = write_wav(path)
    stored = store(service, path, media_type="audio/wav")
    address = f"http://127.0.0.1:{service}"

    played = output_of(
        node, str(scripts / "video.mjs"), chromium, address,
        f"{address}/files/{stored.id}?inline=1", *map(str, PLACES),
    )  # fmt: skip

    assert played["duration"] == pytest.approx(duration)
    assert played["reached"] == pytest.approx(PLACES)
    assert {answer["status"] for answer in played["answers"]} == {206}
    begins = [int(answer["range"].split("=")[1].split("-")[0]) for answer in played["answers"]]
    assert max(begins) > WAV / 2  # it has not read all of the bytes in between


def test_chromium_shows_files_as_tabs_and_runs_nothing_in_them(
    service: int, node: str, scripts: Path, chromium: str, tmp_path: Path
) -> None:
    write_wav(tmp_path / "sound.wav", 1)
    for name, (data, *_) in SHOWN.items():
        if data:
            (tmp_path / name).write_bytes(data)

    def address_of(name: str, media_type: str) -> str:
        stored = store(service, tmp_path / name, media_type=media_type)
        return f"http://127.0.0.1:{service}/files/{stored.id}?inline=1"

    addresses = [address_of(name, kind) for name, (_, kind, _) in SHOWN.items()]
    shown = output_of(node, str(scripts / "tab.mjs"), chromium, *addresses)["shown"]

    assert dict(zip(SHOWN, shown, strict=True)) == {
        name: expected for name, (*_, expected) in SHOWN.items()
    }


def test_redbot_finds_conditional_requests_and_ranges_and_no_error(
    service: int, tmp_path: Path
) -> None:
    path = tmp_path / "noise.bin"
    path.write_bytes(bytes(range(256)) * 4096)
    stored = store(service, path, media_type="application/octet-stream")
    url = f"http://127.0.0.1:{service}/files/{stored.id}"

    har = output_of(find_uv_bin(), "tool", "run", "--quiet", "redbot", "--output-format=har", url)

    (entry,) = har["log"]["entries"]
    notes = {note["note_id"]: note["level"] for note in entry["_red_messages"]}
    supported = {"IMS_304", "INM_304", "RANGE_CORRECT", "CL_CORRECT"}
    assert {note for note in supported if notes.get(note) != "GOOD"} == set()
    assert {note for note, level in notes.items() if level not in ("GOOD", "INFO")} == set()


def output_of(*command: str) -> dict[str, Any]:
    """Run a command, and return the JSON that it prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=PATIENCE)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def write_wav(path: Path, mebibytes: int = WAV >> 20) -> float:
    """Write a file of silence, and return its duration in seconds."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(RATE)
        for _ in range(mebibytes):
            out.writeframesraw(bytes(1 << 20))
        return out.getnframes() / RATE
