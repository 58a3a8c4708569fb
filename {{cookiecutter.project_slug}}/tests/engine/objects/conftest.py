"""The fixtures of this folder."""

from .servers import bucket_url, endpoint_url
from .shared import opened, proxy

__all__ = ["bucket_url", "endpoint_url", "opened", "proxy"]
