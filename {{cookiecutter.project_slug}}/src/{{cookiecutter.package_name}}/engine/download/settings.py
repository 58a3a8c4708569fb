"""The settings of downloads."""

from typing import Annotated

from pydantic import Field

from ..kernel.limits import Duration, ModuleLimits, Size


class DownloadSettings(ModuleLimits):
    """How files are sent, and limits: `APP_DOWNLOAD__…`."""

    offload: Annotated[str, Field(pattern=r"^(x-accel-redirect|presigned)?$")] = ""
    """Empty: the service sends the bytes of files. `x-accel-redirect`: nginx sends them, from a
    directory. `presigned`: S3 sends them, at a URL of its own."""
    max_age: Duration = 0.0
    """Seconds for which a client may cache a file without revalidation, even if it is deleted."""
    max_archived: Annotated[int, Field(gt=0, lt=1 << 16)] = 10_000
    """Files of one archive that a POST requests; a GET has at most 1,000."""
    max_transform: Size = 10 << 30
    """Bytes of one request body that is transformed."""
