"""The `cookiecutter` command as a person runs it: with arguments, or in a terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect

from answers import ASKED, PROMPTS, QUESTIONS

#: Seconds in which a question must come, also on a busy machine.
PATIENCE = 60


def generate(
    template: Path, output: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command without questions; arguments are options, or answers as `key=value`."""
    output.mkdir(parents=True, exist_ok=True)
    where = [str(template), "--output-dir", str(output)]
    return subprocess.run(
        [sys.executable, "-m", "cookiecutter", *where, *arguments],
        capture_output=True, encoding="utf-8", env=env, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def replay(
    template: Path, output: Path, context: dict[str, Any], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run the command with the answers of a file, which reach the hooks as they are."""
    answers = folder / "answers.json"
    answers.write_text(json.dumps(context), "utf-8")
    return generate(template, output, "--replay-file", str(answers))


class Terminal:
    """A terminal in which the command asks its questions."""

    def __init__(self, template: Path, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "cookiecutter", str(template), "--output-dir", str(output)],
            env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
            dimensions=(100, 300),  # Wide, so that no line is broken.
            encoding="utf-8",
            timeout=PATIENCE,
        )

    def answer(self, **answers: str) -> None:
        """Expect every question with its text and its labels, and answer it; Enter by default."""
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
        """Return the exit code and what came after the last question."""
        self.process.expect(pexpect.EOF)
        self.process.close()
        return self.process.exitstatus, str(self.process.before)
