"""The settings of uploads."""

from typing import Annotated

from pydantic import Field

from ..kernel.limits import ModuleLimits, Size


class UploadSettings(ModuleLimits):
    """Limits of uploads: `APP_UPLOAD__…`."""

    max_size: Size = 10 << 30
    """Bytes of one file."""
    max_files: Annotated[int, Field(ge=1)] = 50
    """Files of one form."""
    max_fields: Annotated[int, Field(ge=0)] = 100
    """Other fields of one form; all parts, even those without a name, are limited to the sum."""
    max_field_bytes: Size = 64 << 10
    """Bytes of the names and values of all fields of one form."""
    allowed_types: str = ""
    """Media types that may be stored, such as `image/*,application/pdf`; empty for all."""
