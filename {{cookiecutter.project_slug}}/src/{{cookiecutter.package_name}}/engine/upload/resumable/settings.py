"""The settings of uploads that can be resumed, beside those of all uploads."""

from typing import Annotated

from pydantic import Field

from ...kernel.limits import Duration
from ..settings import UploadSettings


class ResumableUploadSettings(UploadSettings):
    """What may be uploaded, at once and in pieces: `APP_UPLOAD__…`."""

    expire_after: Annotated[Duration, Field(gt=0)] = 86400.0
    """Seconds for which an upload can be resumed after its last byte."""
    max_incomplete: Annotated[int, Field(ge=1)] = 10_000
    """Uploads that wait for the rest of their bytes."""
    max_incomplete_per_owner: Annotated[int, Field(ge=1)] | None = None
    """Those of one owner."""
    max_parts: Annotated[int, Field(ge=1)] = 100
    """Parts of one file that is put together."""
    max_reuse: Annotated[int, Field(ge=1)] = 10
    """Files that one part may be put into."""
    max_concatenations: Annotated[int, Field(ge=1)] = 16
    """Files of this process that are put together at once: one is copied, the others wait."""
    interim_responses: bool = False
    """Whether clients that ask for it get 104 responses; not every proxy understands them."""
