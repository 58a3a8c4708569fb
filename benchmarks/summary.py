"""The summary of all benchmarks: a few values, each with those of other servers.

`summary.json` has the values, `summary.md` their tables. README.md contains the first table,
between the comments `BEGIN` and `END`.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

Record = dict[str, Any]

BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


@dataclass(frozen=True)
class Figure:
    """A value of the service and of other servers with the same load."""

    words: str
    benchmark: str
    load: str
    value: str
    ours: str
    others: tuple[str, ...] = ()
    digits: int = 0


UPLOAD, DOWNLOAD, TOKENS = "1 upload, large network chunks", "1 download", "As fast as possible"
EVENTS, REQUESTS = "1,000 subscribers", "small requests"
FIGURES = [
    Figure("upload of a form, CPU seconds per GiB", "upload", UPLOAD, "cpu", "multipart",
           ("form",), 2),
    Figure("upload with tus, CPU seconds per GiB", "upload", UPLOAD, "cpu", "tus",
           ("tuspyserver", "node"), 2),
    Figure("upload of 2 GiB, MiB of memory", "upload", "1 upload of 2 GiB", "memory", "raw",
           digits=1),
    Figure("download, CPU seconds per GiB", "download", DOWNLOAD, "cpu", "zero-copy",
           ("fileresponse", "nginx"), 2),
    Figure("event to each of 1,000 subscribers, CPU-µs", "realtime", EVENTS, "cpu", "ours",
           ("native", "sse-starlette", "nchan"), 1),
    Figure("token of a run, CPU-µs", "runs", TOKENS, "cpu", "events", ("native",), 1),
    Figure("small request, CPU-µs", "overhead", REQUESTS, "cpu", "ours", ("bare", "http")),
    Figure("upload to S3, MiB/s", "s3", "1 upload", "rate", "ours", ("library",)),
    Figure("download from S3, MiB/s", "s3", "1 download", "rate", "ours", ("library",)),
]  # fmt: skip


def write(results: Path, runs: Sequence[Record]) -> None:
    """Write the summary of the benchmarks that have just run."""
    measured = {each["name"]: read(results, each["name"]) for each in runs}
    reasons = {each["name"]: each["reason"] or each["status"] for each in runs}
    for run in runs:
        document = measured[run["name"]] if run["status"] == "measured" else None
        run["rounds"] = _rounds(document) if document else 0
        if document is None:
            measured.pop(run["name"])
    facts: Record = next((each["facts"] for each in measured.values() if each), {})
    whole = {
        "facts": facts,
        "figures": [record(figure, measured, reasons) for figure in FIGURES],
        "benchmarks": list(runs),
    }
    results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
    (results / "summary.json").write_text(text, "utf-8")
    (results / "summary.md").write_text(page(whole), "utf-8")
    sys.stdout.write(page(whole))


def record(
    figure: Figure, measured: Mapping[str, Record | None], reasons: Mapping[str, str]
) -> Record:
    """Return the medians of a value and their spread: half the range of the rounds."""
    found: Record = {"figure": figure.words, "digits": figure.digits, "ours": None, "others": []}
    document = measured.get(figure.benchmark)
    if document is None:
        return found | {"reason": reasons.get(figure.benchmark, "not selected")}
    for result in document["results"]:
        values = [each.get(figure.value) for each in result["rounds"]]
        if result["load"] != figure.load or not values or None in values:
            continue
        value = {
            "label": result["label"],
            "median": median(values),
            "spread": (max(values) - min(values)) / 2,
            "rounds": len(values),
        }
        if result["server"] == figure.ours:
            found["ours"] = value
        elif result["server"] in figure.others:
            found["others"].append(value)
    return found


def page(whole: Record) -> str:
    """Return the summary as Markdown."""
    facts = whole["facts"]
    sections = [
        "# Summary",
        "The median of the rounds ± half their range. CPU time is that of the server.",
        table(whole),
        "## Benchmarks",
        "| | rounds | seconds | |\n| --- | ---: | ---: | --- |\n"
        + "\n".join(
            f"| {link(each)} | {each['rounds']} | {each['seconds']:.0f} | {state(each)} |"
            for each in whole["benchmarks"]
        ),
    ]
    if facts:
        sections += ["## Machine", machine(facts)]
    return "\n\n".join(sections) + "\n"


def table(whole: Record) -> str:
    """Return the table that README.md contains, too."""
    rows = [
        f"| {each['figure']} | {cell(each, each['ours'])} | {others(each)} |"
        for each in whole["figures"]
    ]
    return "\n".join(["| | a generated service | others |", "| --- | ---: | --- |", *rows])


def cell(figure: Record, value: Record | None) -> str:
    if value is None:
        return f"not measured: {figure['reason']}" if figure.get("reason") else "not measured"
    digits = figure["digits"]
    spread = f" ± {value['spread']:,.{digits}f}" if value["rounds"] > 1 else ""
    return f"{value['median']:,.{digits}f}{spread}"


def others(figure: Record) -> str:
    return "; ".join(f"{each['label']}: {cell(figure, each)}" for each in figure["others"])


def link(run: Record) -> str:
    name = run["name"]
    return f"[{name}]({name}.md)" if run["status"] == "measured" else name


def state(run: Record) -> str:
    return ": ".join(filter(None, [run["status"], run["reason"]]))


def machine(facts: Record) -> str:
    versions = {"Python": facts["python"], **facts["packages"], **facts["programs"]}
    lines = [
        f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_mib']:,} MiB, {facts['kernel']}",
        ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        f"load before: {', '.join(map(str, facts['load_before']))}",
        f"{facts['date']}, commit {facts['commit']}{' with changes' if facts['changed'] else ''}",
    ]
    return "\n".join(f"* {line}" for line in lines)


def block(text: str) -> str | None:
    """Return the text between the comments of README.md; None without them."""
    _, begin, rest = text.partition(BEGIN)
    found, end, _ = rest.partition(END)
    return found.strip() if begin and end else None


def update(readme: Path, results: Path) -> None:
    """Replace the table in README.md by that of the summary."""
    whole = read(results, "summary")
    text = readme.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if whole is None or not end:
        sys.exit(f"There is no summary, or {readme.name} has no {BEGIN.strip()} and {END.strip()}.")
    new = f"{before}{begin}\n{table(whole)}\n\n{end}{after}"
    readme.write_text(new, "utf-8")


def read(results: Path, name: str) -> Record | None:
    """Return a document of results; None if it does not exist."""
    path = results / f"{name}.json"
    if not path.exists():
        return None
    found: Record = json.loads(path.read_text("utf-8"))
    return found


def _rounds(document: Record) -> int:
    return min((len(each["rounds"]) for each in document["results"]), default=0)
