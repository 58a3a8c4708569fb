"""The settings of the storage."""

from typing import Annotated

from pydantic import Field

from ..kernel.limits import Duration, Section, Size


class StorageSettings(Section):
    """Where the files are: `APP_STORAGE__…`."""

    url: Annotated[str, Field(pattern=r"^file:.+")] = "file:./data"
    """A directory, as `file:` and a path."""
    sweep_interval: Annotated[Duration, Field(gt=0)] = 60.0
    """Seconds between two sweeps for the parts of uploads that nobody works on any more."""
    quota: Size | None = None
    """Bytes that all files of one owner may have together."""
    keep_free: Size = 64 << 20
    """Bytes of the disk that no upload may take."""
    max_listed: Annotated[int, Field(gt=0)] = 5000
    """Files in one response of a listing; the rest is on further pages."""
    max_listed_bytes: Annotated[Size, Field(gt=0)] = 2 << 20
    """Bytes of one, after which a page ends too: the metadata of files can be long."""
