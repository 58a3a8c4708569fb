"""Combinations of answers: every set of modules, and the other answers in pairs.

All sets of modules are generated. The other answers are independent of each other: every value is
combined with every set of modules and with every value of every other question at least once.
"""

import json
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
QUESTIONS: dict[str, Any] = json.loads((REPOSITORY / "cookiecutter.json").read_text("utf-8"))
PROMPTS: dict[str, Any] = QUESTIONS["__prompts__"]
ASKED = [key for key in QUESTIONS if not key.startswith("_")]

MODULES = ("use_upload", "use_download", "use_realtime", "use_error_handling")
#: The answers that generate most, with all modules, which are selected by default.
EVERYTHING: dict[str, bool | str] = {
    "storage": "s3", "broker": "redis", "use_chat": True, "engine_tests": True,
}  # fmt: skip
#: The same without access control, for clients without a key.
OPEN: dict[str, bool | str] = EVERYTHING | {"auth": "none"}
Subset = tuple[str, ...]
SUBSETS: list[Subset] = [set_ for size in range(1, 5) for set_ in combinations(MODULES, size)]

Answer = bool | str
Answers = dict[str, Answer]
Row = dict[str, Any]
Pair = frozenset[tuple[str, Any]]


def only(*modules: str) -> Answers:
    """Return the answers that select only these modules."""
    return {module: module in modules for module in MODULES}


def name_of(subset: Subset) -> str:
    return "+".join(module.removeprefix("use_") for module in subset)


def tuples_of(subset: Subset, strength: int) -> set[frozenset[tuple[str, bool]]]:
    """Return every combination of `strength` answers about modules in a set of modules."""
    answers = [(module, module in subset) for module in MODULES]
    return {frozenset(some) for some in combinations(answers, strength)}


def all_and_each_alone() -> list[Subset]:
    """Return all modules, and each alone, which cover every pair of answers about modules."""
    chosen = [subset for subset in SUBSETS if len(subset) in (1, len(MODULES))]
    return sorted(chosen, key=len, reverse=True)


@cache
def covering_subsets() -> list[Subset]:
    """Return all modules, each alone, and a few sets that cover every combination of three answers.

    A greedy covering array of strength 3; the sets that add the most combinations come first.
    """
    triples = {subset: tuples_of(subset, 3) for subset in SUBSETS}
    chosen = all_and_each_alone()
    missing = set().union(*triples.values()).difference(*(triples[each] for each in chosen))
    while missing:
        best = max(SUBSETS, key=lambda subset: len(triples[subset] & missing))
        missing -= triples[best]
        chosen.append(best)
    return sorted(chosen, key=len, reverse=True)


def factors() -> dict[str, list[Any]]:
    """Return every question with its values; the set of modules is one question."""
    found: dict[str, list[Any]] = {"modules": list(SUBSETS)}
    for key in ASKED:
        value = QUESTIONS[key]
        if key not in MODULES and isinstance(value, bool | list):
            found[key] = [True, False] if isinstance(value, bool) else value
    return found


def pairs_of(row: Row) -> set[Pair]:
    return {frozenset(pair) for pair in combinations(row.items(), 2)}


def every_pair() -> set[Pair]:
    """Return every pair of answers to two questions."""
    return {
        frozenset([(one, a), (other, b)])
        for (one, first), (other, second) in combinations(factors().items(), 2)
        for a in first
        for b in second
    }


@cache
def covering_rows() -> list[Row]:
    """Return a few rows of answers that contain every pair: greedy and deterministic."""
    rows: list[Row] = []
    missing = every_pair()
    while missing:
        row = dict(min(missing, key=lambda pair: sorted(map(repr, pair))))
        for key, values in factors().items():
            if key not in row:
                row[key] = best_value(row, key, values, missing)
        missing -= pairs_of(row)
        rows.append(row)
    return rows


def best_value(row: Row, key: str, values: list[Any], missing: set[Pair]) -> object:
    """Return the value that adds the most missing pairs to the row."""
    return max(values, key=lambda value: len(pairs_of(row | {key: value}) & missing))


def rows_of(subset: Subset) -> list[Answers]:
    """Return the rows of answers for a set of modules."""
    rows = [row for row in covering_rows() if row["modules"] == subset]
    return [
        only(*row["modules"]) | {k: v for k, v in row.items() if k != "modules"} for row in rows
    ]
