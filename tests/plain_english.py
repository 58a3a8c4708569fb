"""Check that docstrings, comments and Markdown are plain technical English.

`python tests/plain_english.py` lists the findings with replacements; the exit code is 1 if there
are any. `make lint` runs it.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
CHECKED = re.compile(r"\.(py|md|m?js|toml|ya?ml|example)$|(^|/)(Makefile|Dockerfile|run)$")
#: Licences, recorded data, generated results, and this list.
EXCLUDED = re.compile(r"(^|/)(LICENSE$|data/|results/|(test_)?plain_english\.py$)")
#: Files about answers to the template's questions.
ABOUT_ANSWERS = re.compile(
    r"^(hooks|README|CHANGELOG|CONTRIBUTING|docs/(prompts|updates)|.*engine/(README|_missing)"
    r"|tests/(answers|baking|rendering|conftest)"
    r"|tests/test_(prompts|hooks|matrix|manifest|generated_suites|cruft|two_sides))"
)
PROXY = r"(an? |the |your |several |another )?(reverse |TLS )?(prox|nginx|load balancer)"

#: Patterns of a sentence, and their replacements.
RULES = {
    r"^(Who|What|Whoever|Whatever|Nobody|Somebody|Whose)\b[^?]*$": "name the subject",
    r"[;:] (who|what)\b[^?]*$": "name the subject",
    r"\b(and|or|but|of|to|for|from|with|by|than|if|when|where|those),? who\b": "the client that",
    r"\b[Ww]hat (is|are|was|were|it|they|comes?|came)\b[^?]*$": "the … that",
    r"(?i)\b(whoever|nobody|somebody|anybody)\b": "the client, the caller, no task …",
    r"(?i)\b(tells?|told|telling)\b": "report, state, notify, distinguish",
    r"(?i)\b(says?|said|saying)\b": "report, state, specify, require, contain",
    rf"(?<!fall )(?<!falls )(?<!fallen )(?<!left )(?<!them )\bbehind\b(?! {PROXY})": "after",
    r"(?<!-)\b[Hh]eads?\b(?! of the (queue|list))(?!-)": "headers",
    r"(?i)\blet(s|ting)? go\b|\bforg[eo]t": "evict, release, delete",
    r"(?i)\banswer(s|ed|ing)?\b(?! `)": "response, respond",
    r"(?i)\bfigures?\b": "metrics, measurements, results",
    r"(?i)\b(is|are|was|were) to be\b": "must be, has to be",
    r"(?i)\bcom(e|es|ing) and go(es|ing)?\b": "are stored and deleted, connect and disconnect",
    r"(?i)\bhurts?\b|\bin the hands of\b": "lose, fail; held by",
    r"(?i)\bas (it|they) (may|likes?)\b": "state the limit",
    r"(?i)\bstand(s|ing)?\b(?! (for|in for)\b)(?!-)": "be, be listed, be defined",
    r"(?i)\bbeside\b": "next to, in addition to, compared with",
    r"(?i)\b(go(es|ing)?|went) on\b": "continue",
    r"(?i)\bcom(e|es|ing) back\b|\bcame back\b": "return, reconnect",
    r"(?i)\btests? holds?\b|\bheld against\b|\bholds? \w+ against\b": "check, compare",
    r"(?i)\b(lies|lying|lie)\b": "is stored, is",
    r"(?i)\bhonest(ly)?\b|\bthe truth\b": "well-behaved, correct",
    r"(?i)\banew\b|\ball the same\b|\bfor ever\b": "again, nevertheless, indefinitely",
    r"^Of\b": "name the subject",
    r"(?<!there )\b(is|are|was|were) none\b(?! of)(?!:)": "does not exist, is not a …",
    r"(?i)\b(that|which) (is|are|was|were) (not )?there\b": "existing, missing",
    r"(?i)\bknows? (nothing |of )": "does not depend on, has",
    r"(?i)\b(ours|theirs)\b": "of the service, of the template",
    r"^Else\b": "otherwise",
    r"(?i)\bso (many|much)\b(?! \w+ that)": "a number of, `count`",
    r"(?i)\bunder way\b": "in progress, active",
}


def findings(sentence: str, path: str = "") -> list[str]:
    """Return the patterns that a sentence matches, without its code, quotations and links."""
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)|\"[^\"]*\"", "`X`", sentence)
    skipped = "answer" if ABOUT_ANSWERS.match(path) else "\n"
    return [each for each in RULES if skipped not in each and re.search(each, prose)]


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the sentences of a file, with the lines of their paragraphs."""
    read = {".py": _python, ".md": _markdown, ".js": _script, ".mjs": _script}
    for line, paragraph in read.get(path.suffix, _comments)(path.read_text("utf-8")):
        for sentence in re.split(r"\s\|\s?|(?<=[.!?])\s", re.sub(r"\s+", " ", paragraph)):
            yield line, sentence.strip()


def _python(source: str) -> Iterator[tuple[int, str]]:
    source = re.sub(r"\{\{ *cookiecutter.*?\}\}", "package", source)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    yield from _joined((t.start[0], t.string) for t in tokens if t.type == tokenize.COMMENT)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                yield getattr(node, "lineno", 1), paragraph


def _markdown(source: str) -> Iterator[tuple[int, str]]:
    hidden = re.compile(r"^ *```.*?^ *```|^# \{%.*?$|<!--.*?-->", re.DOTALL | re.MULTILINE)
    source = hidden.sub(lambda found: "\n" * found[0].count("\n"), source)
    line = 1
    for paragraph in re.split(r"(\n\s*\n|\n(?=\s*[*#|-]|\s*\d+\. ))", source):
        yield line, paragraph.strip().lstrip("*#|- ")
        line += paragraph.count("\n")


def _script(source: str) -> Iterator[tuple[int, str]]:
    for found in re.finditer(r"^\s*/\*[\s\S]*?\*/|(^\s*// .*\n)+|(?<=\S) // .*", source, re.M):
        yield source.count("\n", 0, found.start()) + 1, re.sub(r"[/*\s]+", " ", found[0])


def _comments(source: str) -> Iterator[tuple[int, str]]:
    lines = enumerate(source.splitlines(), 1)
    found = ((number, re.search(r"(^|\s)# .*", line)) for number, line in lines)
    yield from _joined((number, match[0].strip()) for number, match in found if match)


def _joined(comments: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Join the comments of successive lines; skip those of Jinja."""
    first, last, text = 0, 0, ""
    for line, comment in chain(comments, [(0, "")]):
        jinja = comment.startswith("# {%")
        if line != last + 1 or jinja or comment.startswith("#:"):
            yield first, text
            first, text = line, ""
        last, text = line, text if jinja else f"{text} {comment.lstrip('#: ')}"


def check(root: Path = REPOSITORY) -> int:
    """Print the findings in the files that git tracks; return their number."""
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=root, encoding="utf-8")
    names = [n for n in listed.split("\0") if CHECKED.search(n) and not EXCLUDED.search(n)]
    failed = 0
    for name in names:
        for line, sentence in sentences(root / name):
            if found := findings(sentence, name):
                failed += 1
                print(f"{name}:{line}: {'; '.join(RULES[each] for each in found)}: {sentence}")
    return failed


if __name__ == "__main__":
    sys.exit(check() > 0)
