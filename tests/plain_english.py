"""Check that docstrings, comments and Markdown use plain technical English.

`python tests/plain_english.py` lists each finding with a replacement, and the number per rule.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
#: Files whose findings are counted and do not fail the check.
COUNTED_ONLY = re.compile(r"^\{\{.*/engine/.*\.py$|docs/problems\.md$")
#: Quotations and texts of others, and the list itself.
EXCLUDED = re.compile(
    r"(^|/)(LICENSE|data/.*|results/.*|plain_english\.py|test_plain_english\.py)$"
)
#: "Answers" are those to the template's questions in these files.
ABOUT_ANSWERS = re.compile(
    r"^(hooks|README|CHANGELOG|CONTRIBUTING|.*engine/README|docs/prompts|tests/(answers|baking|rendering|conftest|test_(prompts"
    r"|hooks|matrix|manifest|generated_suites|cruft|naive|two_sides|unrendered|workflows)))"
)
PROXY = r"(an? |the |your |several |another )?(reverse |TLS )?(prox|nginx|Caddy|load balancer)"

#: A pattern of a sentence, and the words to use in its place.
RULES = {
    r"^(Who|What|Whoever|Whatever|Nobody|Somebody|Whose)\b[^?]*$": "name the subject",
    r"(?i)\b(whoever|nobody|somebody|anybody)\b": "name the subject: client, caller, task …",
    r"(?<=[;:] )(who|what)\b[^?]*$": "name the subject",
    r"(?i)\b(tells?|told|telling)\b": "report, state, notify, distinguish",
    r"(?i)\b(says?|said|saying)\b": "report, state, specify, require, contain",
    rf"(?<!fall )(?<!falls )(?<!fallen )(?<!left )\bbehind\b(?! {PROXY})": "after",
    r"(?<!-)\b[Hh]eads?\b(?! of the (queue|list))(?!-)": "headers, HEAD",
    r"(?i)\blet(s|ting)? go\b": "evict, release",
    r"(?i)\banswer(s|ed|ing)?\b(?! `)": "response, respond",
    r"(?i)\bfigures?\b": "metrics, measurements, numbers",
    r"(?i)\b(is|are|was|were) to be\b": "must be, has to be",
    r"(?i)\bcom(e|es|ing) and go(es|ing)?\b": "are stored and removed, open and close",
    r"(?i)\bhurts?\b|\bin the hands of\b": "lose, fail; held by",
    r"(?i)\bas (it|they) (may|likes?)\b": "state the limit",
    r"(?i)\bstand(s|ing)?\b(?! (for|in for)\b)(?!-)": "be, be listed, be defined",
    r"(?i)\bbeside\b": "next to, besides, compared with",
    r"(?i)\b(go(es|ing)?|went) on\b": "continue",
    r"(?i)\bcom(e|es|ing) back\b|\bcame back\b": "return, reconnect",
    r"(?i)\btests? holds?\b|\bheld against\b|\bholds? \w+ against\b": "check, compare",
    r"(?i)\b(lies|lying|lie)\b": "is stored, is",
    r"(?i)\bhonest(ly)?\b|\bthe truth\b": "well-behaved, correct",
    r"(?i)\banew\b|\ball the same\b": "again, nevertheless",
    r"^Of\b": "name the subject",
    r"(?i)(?<!there )\b(is|are|was|were) none\b(?! of)(?!:)": "does not exist, is not a …",
    r"(?i)\bknows? (nothing |of )": "does not depend on, has",
    r"(?i)\b(ours|theirs)\b": "of this service, of the template",
}


def findings(sentence: str, path: str = "") -> Iterator[str]:
    """Yield the patterns that a sentence matches, without its code and links."""
    plain = re.sub(r"`[^`]*`|\]\([^)]*\)|\"[^\"]*\"", "`X`", sentence)
    for pattern in RULES:
        about_answers = "answer" in pattern and ABOUT_ANSWERS.match(path)
        if not about_answers and re.search(pattern, plain):
            yield pattern


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the sentences of a file with the lines on which their paragraphs begin."""
    source = path.read_text("utf-8")
    read = {".py": _python, ".md": _markdown, ".js": _script, ".mjs": _script}
    for line, paragraph in read.get(path.suffix, _comments)(source):
        joined = re.sub(r"\s+", " ", paragraph)
        yield from ((line, each.strip()) for each in re.split(r"(?<=[.!?])\s|\s\|\s?", joined))


def _python(source: str) -> Iterator[tuple[int, str]]:
    source = re.sub(r"\{\{ *cookiecutter.*?\}\}", "package", source)
    yield from _joined(
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    )
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                yield node.body[0].lineno if node.body else 1, paragraph


def _markdown(source: str) -> Iterator[tuple[int, str]]:
    fenced = re.compile(r"^ *```.*?^ *```|^# \{%.*?$|<!--.*?-->", re.DOTALL | re.MULTILINE)
    source = fenced.sub(lambda found: "\n" * found[0].count("\n"), source)
    line = 1
    for paragraph in re.split(r"(\n\s*\n|\n(?=\s*[*#|-]|\s*\d+\. ))", source):
        yield line, paragraph.strip().lstrip("*#|- ")
        line += paragraph.count("\n")


def _script(source: str) -> Iterator[tuple[int, str]]:
    for found in re.finditer(r"^\s*/\*[\s\S]*?\*/|(?:^\s*// .*\n)+", source, re.MULTILINE):
        yield source.count("\n", 0, found.start()) + 1, re.sub(r"[/*\s]+", " ", found[0])


def _comments(source: str) -> Iterator[tuple[int, str]]:
    lines = enumerate(source.splitlines(), 1)
    yield from _joined(
        (n, line[line.index("# ") :]) for n, line in lines if re.search("^# |\\s# ", line)
    )


def _joined(comments: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Join the comments of successive lines; skip Jinja's."""
    first, last, text = 0, 0, ""
    for line, comment in comments:
        words = comment.lstrip("#: ")
        if line != last + 1 or words.startswith("{%") or comment.startswith("#:"):
            yield first, text
            first, text = line, ""
        last, text = line, f"{text} {'' if words.startswith('{%') else words}"
    yield first, text


def check(root: Path = REPOSITORY) -> int:
    """Print the findings of the files that git tracks; return their number."""
    counted: Counter[str] = Counter()
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=root, encoding="utf-8").split(
        "\0"
    )
    suffixes = re.compile(r"\.(py|md|js|mjs|toml|ya?ml|example)$|(^|/)(Makefile|Dockerfile|run)$")
    for name in tracked:
        if not suffixes.search(name) or EXCLUDED.search(name):
            continue
        for line, sentence in sentences(root / name):
            for pattern in findings(sentence, name):
                if COUNTED_ONLY.search(name):
                    counted[pattern] += 1
                else:
                    counted[""] += 1
                    print(f"{name}:{line}: {RULES[pattern]}: {sentence}")
    failed = counted.pop("", 0)
    for pattern, number in counted.most_common():
        print(f"{number:5} in the engine: {pattern} ({RULES[pattern]})")
    return failed


if __name__ == "__main__":
    sys.exit(check() > 0)
