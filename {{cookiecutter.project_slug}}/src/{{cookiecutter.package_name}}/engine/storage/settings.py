"""The settings of the store."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from ..kernel.limits import Duration, Section, Size

#: A path, also after an empty host (RFC 8089, section 2), without the other parts of a URL.
_PATH = re.compile(r"file:(?://(?=/))?((?!//(?!/)|~)(?:(?!%[0-9A-Fa-f]{2})[^?#])+)")
#: A bucket, and a prefix of characters that all tools accept (Amazon S3 user guide, "Object key
#: naming guidelines").
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w!.*'()-]+)*/?", re.ASCII)
#: As in the settings of real-time events.
_REDIS = r"^(rediss?://|unix://)"


def _place(url: str) -> str:
    if url.startswith("s3:"):
        if not _BUCKET.fullmatch(url):
            raise ValueError(f"{url} is not `s3://`, the name of a bucket, and perhaps a prefix")
        if find_spec(f"{__package__}.s3") is None:
            raise ValueError("this project was generated for files in a directory only, without S3")
    elif not _PATH.fullmatch(url):
        raise ValueError(
            f"{url} is not `file:` and a path, such as file:./data or file:///srv/data, without a"
            " host, a query, a fragment, `~` and escapes"
        )
    return url


class StorageSettings(Section):
    """The store of the files: `APP_STORAGE__…`."""

    url: Annotated[str, AfterValidator(_place)] = "file:./data"
    """A directory, as `file:` and a path; or a bucket, as `s3://`, its name and a prefix."""
    endpoint_url: Annotated[str, Field(pattern=r"^https?://[^/?#]+/?$")] | None = None
    """The S3 server; by default that of AWS."""
    redis_url: Annotated[str, Field(pattern=_REDIS)] | None = None
    """Coordinates the processes that use one bucket; without it, there can be one only. By default
    it is the broker of real-time events, if that is Redis."""
    max_buffered: Annotated[Size, Field(gt=0)] = 256 << 20
    """Bytes of uploads to S3 that each process keeps in memory; others are in temporary files."""
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
