"""The fixtures of this folder."""

from .servers import bucket_url, endpoint_url

__all__ = ["bucket_url", "endpoint_url"]
