"""The settings of the store."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from ..kernel.limits import Duration, Section, Size

#: A path, also after an empty host (RFC 8089, section 2), without the other parts of a URL.
_PATH = re.compile(r"file:(?://(?=/))?((?!//(?!/)|~)(?:(?!%[0-9A-Fa-f]{2})[^?#])+)")


def _directory(url: str) -> str:
    if not _PATH.fullmatch(url):
        raise ValueError(
            f"{url} is not `file:` and a path, such as file:./data or file:///srv/data, without a"
            " host, a query, a fragment, `~` and escapes"
        )
    return url


class StorageSettings(Section):
    """The store of the files: `APP_STORAGE__…`."""

    url: Annotated[str, AfterValidator(_directory)] = "file:./data"
    """A directory, as `file:` and a path."""
    sweep_interval: Annotated[Duration, Field(gt=0)] = 60.0
    """Seconds between two sweeps, which remove the incomplete files of dead writers."""
    quota: Size | None = None
    """Maximum total size of the files of one owner."""
    max_files_per_owner: Annotated[int, Field(gt=0)] | None = None
    """Maximum number of files of one owner, including unfinished uploads."""
    keep_free: Size = 64 << 20
    """Bytes of the disk that uploads leave free."""
    max_listed: Annotated[int, Field(gt=0)] = 5000
    """Maximum number of files on one page of a listing."""
    max_listed_bytes: Annotated[Size, Field(gt=0)] = 2 << 20
    """Bytes after which a page ends too, since the metadata of files can be long."""

    @property
    def directory(self) -> Path:
        """The path in `url`."""
        return Path(self.url.removeprefix("file:").removeprefix("//"))
