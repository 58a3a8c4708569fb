"""The settings of downloads."""

from typing import Annotated

from pydantic import Field

from ..kernel.limits import Duration, ModuleLimits, Size


class DownloadSettings(ModuleLimits):
    """How files are sent, and limits of its own: `APP_DOWNLOAD__…`."""

    offload: Annotated[str, Field(pattern=r"^(x-accel-redirect)?$")] = ""
    """Who sends the bytes of files: the service itself, or the nginx in front of it."""
    max_age: Duration = 0.0
    """Seconds for which a client may keep a file without asking again; it may be deleted since."""
    max_transform: Size = 10 << 30
    """Bytes of one body that is transformed."""
