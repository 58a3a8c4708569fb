"""Errors for imports of parts of the engine that were not generated."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

#: The answer that generates a part, by module.
ANSWERS = {
    "access": "auth=api-key",
    "download": "use_download=yes",
    "errors": "use_error_handling=yes",
    "objects": "storage=s3",
    "realtime": "use_realtime=yes",
    "realtime.backends.redis": "broker=redis",
    "realtime.chat": "use_realtime=yes and use_chat=yes",
    "realtime.files": "use_realtime=yes and use_upload=yes",
    "storage": "use_upload=yes or use_download=yes",
    "storage.s3": "storage=s3",
    "streams": "use_upload=yes, use_download=yes or use_realtime=yes",
    "upload": "use_upload=yes",
    "upload.resumable": "resumable_uploads=yes",
}


class _Explainer:
    """The last import finder (PEP 451): raises an error that names the answer to change."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        part = name.removeprefix(f"{self.package}.")
        if part != name and part in ANSWERS:
            raise ModuleNotFoundError(
                f"{name} is not in this project: it comes with the answer {ANSWERS[part]}"
                " (docs/troubleshooting.md has the command)",
                name=name,
            )
        return None


def explain(package: str) -> None:
    """Make imports of missing parts raise an error that names the answer."""
    sys.meta_path.append(_Explainer(package))
