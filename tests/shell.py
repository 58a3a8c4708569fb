"""A shell for the commands of documents, without a network; uv runs installed tools."""

import os
import shlex
import sys
from pathlib import Path

#: Runs a tool of the tests, without the version that the command may contain.
UVX = '#!/bin/sh\ntool=${{1%%>*}}\nshift\nexec {tools}/"$tool" "$@"\n'
#: Runs a tool of the project's environment; `serve` is a module of the project in the variables.
UV = """#!/bin/sh
shift
[ "$1" = --no-project ] && shift
[ "$1" = serve ] || exec {tools}/"$@"
shift
exec {tools}/python -m "$PACKAGE" "$@"
"""


def variables(folder: Path, tools: Path = Path(sys.executable).parent) -> dict[str, str]:
    """Return the variables of a shell with a home in `folder`, and tools in place of uv."""
    own = folder / "bin"
    own.mkdir()
    for name, script, where in (("uv", UV, tools), ("uvx", UVX, Path(sys.executable).parent)):
        (own / name).write_text(script.format(tools=shlex.quote(str(where))))
        (own / name).chmod(0o755)
    closed = dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    path = os.pathsep.join([str(own), str(tools), os.environ["PATH"]])
    return {**os.environ, **closed, "no_proxy": "127.0.0.1", "PATH": path, "HOME": str(folder)}
