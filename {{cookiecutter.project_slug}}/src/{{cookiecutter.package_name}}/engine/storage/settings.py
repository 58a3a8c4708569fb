"""The settings of the store."""

from typing import Annotated

from pydantic import Field

from ..kernel.limits import Duration, Section, Size


class StorageSettings(Section):
    """The store of the files: `APP_STORAGE__…`."""

    url: Annotated[str, Field(pattern=r"^file:.+")] = "file:./data"
    """A directory, as `file:` and a path."""
    sweep_interval: Annotated[Duration, Field(gt=0)] = 60.0
    """Seconds between two sweeps, which remove the incomplete files of dead writers."""
    quota: Size | None = None
    """Maximum total size of the files of one owner."""
    keep_free: Size = 64 << 20
    """Bytes of the disk that uploads leave free."""
    max_listed: Annotated[int, Field(gt=0)] = 5000
    """Maximum number of files on one page of a listing."""
    max_listed_bytes: Annotated[Size, Field(gt=0)] = 2 << 20
    """Bytes after which a page ends too, since the metadata of files can be long."""
