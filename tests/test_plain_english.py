"""The check of the English finds each of its patterns, and nothing in the repository."""

from pathlib import Path

import pytest

from plain_english import RULES, check, findings, sentences

#: A sentence for each rule, in their order, and the sentence that should replace it.
SAMPLES = [
    ("What was measured of uploads.", "The results of uploads."),
    ("It is closed: who connects now fails.", "It is closed: new connections fail."),
    ("For a client, or who acts for it.", "For a client, or for its proxy."),
    ("Return what is sent now.", "Return the next bytes."),
    ("Whoever holds the lock writes.", "The holder of the lock writes."),
    ("The server tells clients to stop.", "The server asks clients to stop."),
    ("The log says so.", "The log contains the reason."),
    ("Bytes behind a request.", "Bytes after a request, behind a proxy."),
    ("Read the head of a response.", "Read the headers of a response to HEAD."),
    ("Let go of the oldest event.", "Evict the oldest event."),
    ("The answer has no body.", "The response has no body."),
    ("Figures of one application.", "The metrics of one application."),
    ("The body is to be read.", "The body must be read."),
    ("Clients come and go.", "Clients connect and disconnect."),
    ("A deploy hurts no stream.", "Rolling deploys lose no stream."),
    ("It takes as long as it may.", "It takes at most ten seconds."),
    ("Names stand in a table.", "Names are listed in a table, which stands for all."),
    ("A file beside the data.", "A file next to the data."),
    ("The run goes on.", "The run continues."),
    ("A client that comes back.", "A client that reconnects."),
    ("A test holds it against the tree.", "A test compares it with the tree."),
    ("The file lies in a directory.", "The file is stored in a directory."),
    ("An honest client.", "A well-behaved client."),
    ("The upload begins anew.", "The upload starts again."),
    ("Of one connection, in bytes.", "Bytes of one connection."),
    ("A date that is none.", "An invalid date; if there is none, use the default."),
    ("A file that is not there.", "A missing file."),
    ("The kernel knows nothing of rows.", "The kernel does not depend on rows."),
    ("The id is not ours.", "The id belongs to another epoch."),
    ("Else the client retries.", "Otherwise the client retries."),
    ("So many bytes are read.", "At most `size` bytes are read."),
    ("An upload that is under way.", "An active upload."),
]


@pytest.mark.parametrize(("rule", "sample"), [*zip(RULES, SAMPLES, strict=True)])
def test_each_pattern_is_found(rule: str, sample: tuple[str, str]) -> None:
    wrong, right = sample

    assert rule in findings(wrong)
    assert findings(right) == []


def test_code_quotations_and_questions_are_not_prose() -> None:
    assert findings('The field `what_is_told` of `behind`, or "said" in a page.') == []
    assert findings("What happens when the client disconnects?") == []


def test_answers_of_the_template_are_answers() -> None:
    assert findings("The answer is checked.", "hooks/pre_gen_project.py") == []
    assert findings("The answer is checked.", "tests/tools.py") != []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", '"""One. Two words\nof three."""\n\n# Four\n# and five.\nx = "no"  # six\n'),
        (
            "a.md",
            "# One.\n\n```\nno\n```\n\n* Two words\n  of three.\n\n| Four and five. | six |\n",
        ),
        ("a.js", "/** One. Two words\n * of three. */\n// Four\n// and five.\nno(); // six\n"),
        ("a.toml", "# One. Two words\n# of three.\nx = 1\n# Four\n# and five.\n\n[x] # six\n"),
    ],
)
def test_prose_is_split_into_sentences(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")

    found = {sentence for _, sentence in sentences(path) if sentence}
    assert found == {"One.", "Two words of three.", "Four and five.", "six"}


def test_the_repository_is_plain_english() -> None:
    assert check() == 0
