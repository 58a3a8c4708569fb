"""The settings of resumable uploads, in addition to those of all uploads."""

from typing import Annotated

from pydantic import Field

from ...kernel.limits import Duration
from ..settings import UploadSettings


class ResumableUploadSettings(UploadSettings):
    """Limits of uploads in one or several requests: `APP_UPLOAD__…`."""

    expire_after: Annotated[Duration, Field(gt=0)] = 86400.0
    """Seconds for which an upload can be resumed after its last byte."""
    max_incomplete: Annotated[int, Field(ge=1)] = 10_000
    """Unfinished uploads of all clients."""
    max_incomplete_per_client: Annotated[int, Field(ge=1)] = 500
    """Unfinished uploads of one user, or one address, in all processes."""
    max_parts: Annotated[int, Field(ge=1)] = 100
    """Parts that are concatenated into one file."""
    max_reuse: Annotated[int, Field(ge=1)] = 10
    """Files that one part may be concatenated into."""
    max_concatenations: Annotated[int, Field(ge=1)] = 16
    """Concatenations of one process at once: one runs, the others wait."""
    interim_responses: bool = False
    """Whether clients that support it get 104 responses; not every proxy supports them."""
