"""Draw the terminals of the README from real output: `uv run python docs/images/draw.py`.

`terminal.svg` has the end of a generation, the start of the service, and commands of the README,
which a test runs. `prompts.png` has the questions, and requires chromium.
"""

import re
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

import pexpect

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from answers import ASKED, EVERYTHING  # noqa: E402
from baking import bake, copy_of_the_template  # noqa: E402
from command import generate  # noqa: E402
from environment import environment_for  # noqa: E402
from running import LINK, started  # noqa: E402
from test_readme import session  # noqa: E402

TEMPLATE = "path/to/cookiecutter-fastapi-streaming"
#: Parts of the commands of the README that are shown.
SHOWN = ("AUTH=", "> hello.txt", "filename=hello.txt", "-r 6-11", "fail_after")
#: Columns of the picture; pixels of a line; seconds between two steps.
COLUMNS, LINE, PACE = 100, 19, 1.6
STYLE = """
text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d4d4d4; white-space: pre }
.command { fill: #ffffff; font-weight: bold }
.step { animation: appear 0.4s ease-out backwards }
@keyframes appear { from { opacity: 0 } }
@media (prefers-reduced-motion: reduce) { .step { animation: none } }
"""
SHADES = {
    "1": "font-weight:bold", "2": "opacity:.6", "35": "color:#c678dd", "36": "color:#56b6c2",
}  # fmt: skip
PAGE = """<meta charset="utf-8"><style>body {{ margin: 0; background: #111; color: #eee;
font: 14px/19px "DejaVu Sans Mono", monospace; padding: 14px }}</style><pre style="font: inherit; margin: 0">{}</pre>"""


def steps(folder: Path) -> list[tuple[str, str]]:
    """Return commands with their output."""
    template = copy_of_the_template(folder / "template")
    made = generate(template, folder / "out", "--no-input")
    summary = made.stdout.replace(str(folder / "out"), "/home/ada").replace(str(template), TEMPLATE)
    project = bake(template, folder / "full", **EVERYTHING)
    with started(project, environment_for(project), folder, LINK) as service:
        link = service.line.replace(f":{service.port}", ":8000")
    return [
        (f"uvx 'cookiecutter>=2.7' {TEMPLATE} --no-input", summary.strip("\n")),
        (
            "cd streaming-service && uv run serve",
            f"Open {link.partition('sk_')[0]}sk_…    # in a browser, or in another terminal:",
        ),
        *(
            (re.sub(r"; echo$|  +#.*", "", command), output)
            for command, output in session()
            if any(each in command for each in SHOWN)
        ),
    ]


def wrapped(text: str) -> list[str]:
    # After a space, a comma or a semicolon where possible.
    cut = re.compile(rf".{{1,{COLUMNS}}}(?:(?<=[ ,;])|$)|.{{1,{COLUMNS}}}")
    return [line for each in text.splitlines() for line in cut.findall(each) or [""]]


def terminal(shown: list[tuple[str, str]]) -> str:
    """Return a picture in which the steps appear one after the other."""
    groups, row = [], 1
    for number, (command, output) in enumerate(shown):
        texts = []
        for kind, lines in (("command", wrapped(f"$ {command}")), ("", wrapped(output))):
            for line in lines:
                y = row * LINE + 8
                texts.append(f'<text class="{kind}" x="14" y="{y}">{escape(line)}</text>')
                row += 1
        row += number < 2
        delay = f"animation-delay:{number * PACE:.1f}s"
        groups.append(f'<g class="step" style="{delay}">{"".join(texts)}</g>')
    width, height = COLUMNS * 8 + 14, row * LINE + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
        "<title>A service is generated, started and used with curl</title>"
        f'<style>{STYLE}</style><rect width="100%" height="100%" rx="8" fill="#161616"/>'
        + "\n".join(groups)
        + "</svg>\n"
    )


def questions(folder: Path) -> str:
    """Return the output of a terminal in which the questions are asked."""
    template = copy_of_the_template(folder / "asked")
    process = pexpect.spawn(
        sys.executable, ["-m", "cookiecutter", str(template), "--output-dir", str(folder / "ada")],
        env={"TERM": "xterm-256color", "PATH": "/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "80"},
        dimensions=(100, 80), encoding="utf-8", timeout=120,
    )  # fmt: skip
    (folder / "ada").mkdir()
    output = ""
    for number, key in enumerate(ASKED, 1):
        process.expect_exact(f"[{number}/{len(ASKED)}]")
        output += str(process.before) + str(process.after)
        process.expect_exact(": ")
        output += str(process.before) + str(process.after)
        process.sendline({"project_name": "File Drop"}.get(key, ""))
    process.expect(pexpect.EOF)
    output += str(process.before)
    return output.replace(str(folder / "ada"), "/home/ada").replace(str(template), TEMPLATE)


def coloured(output: str) -> str:
    """Return HTML for the colours of a terminal."""
    html, opened = "", 0
    for part in re.split(r"(\x1b\[[\d;]*m)", output.replace("\r", "")):
        if not part.startswith("\x1b"):
            html += escape(part)
        elif part in ("\x1b[0m", "\x1b[m"):
            html += "</span>" * opened
            opened = 0
        else:
            codes = part[2:-1].split(";")
            style = ";".join(SHADES[code] for code in codes if code in SHADES)
            html += f'<span style="{style}">'
            opened += 1
    return html


def main() -> None:
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        (HERE / "terminal.svg").write_text(terminal(steps(folder)), "utf-8")
        output = questions(folder).strip("\n\r")
        page = folder / "prompts.html"
        page.write_text(PAGE.format(coloured(output)), "utf-8")
        height = 28 + 19 * (output.count("\n") + 1)
        subprocess.run(
            [
                "chromium", "--headless", "--no-sandbox", "--hide-scrollbars",
                f"--window-size=860,{height}", f"--screenshot={HERE / 'prompts.png'}",
                page.as_uri(),
            ],
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
