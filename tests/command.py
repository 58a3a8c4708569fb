"""The `cookiecutter` command, with arguments or in a terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect

from answers import ASKED, PROMPTS, QUESTIONS

#: Maximum seconds until a question appears, also on a busy machine.
PATIENCE = 60


def generate(
    template: Path, output: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command without questions; pass options and `key=value` arguments."""
    output.mkdir(parents=True, exist_ok=True)
    where = [str(template), "--output-dir", str(output)]
    return subprocess.run(
        [sys.executable, "-m", "cookiecutter", *where, *arguments],
        capture_output=True, encoding="utf-8", env=env, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def replay(
    template: Path, output: Path, context: dict[str, Any], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run the command with a replay file, whose values are passed to the hooks unchanged."""
    answers = folder / "answers.json"
    answers.write_text(json.dumps(context), "utf-8")
    return generate(template, output, "--replay-file", str(answers))


class Terminal:
    """A terminal with the questions of the command."""

    def __init__(self, template: Path, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "cookiecutter", str(template), "--output-dir", str(output)],
            env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
            dimensions=(100, 300),  # Wide enough that lines are not wrapped.
            encoding="utf-8",
            timeout=PATIENCE,
        )

    def answer(self, **answers: str) -> None:
        """Expect every question with its text and labels, and enter a value; Enter by default."""
        for number, key in enumerate(ASKED, 1):
            text = PROMPTS[key]
            question = text if isinstance(text, str) else text["__prompt__"]
            self.process.expect_exact(f"[{number}/{len(ASKED)}] {question}")
            if isinstance(QUESTIONS[key], list):
                for place, choice in enumerate(QUESTIONS[key], 1):
                    self.process.expect_exact(f"{place} - {text[choice]}")
            self.process.expect_exact("): ")
            self.process.sendline(answers.get(key, ""))

    def end(self) -> tuple[int | None, str]:
        """Return the exit code and the output after the last question."""
        self.process.expect(pexpect.EOF)
        self.process.close()
        return self.process.exitstatus, str(self.process.before)
