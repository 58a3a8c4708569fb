"""The fixtures of this folder."""

from ..redis_server import redis, stopped_redis
from .servers import bucket_url, endpoint_url
from .shared import opened, proxy

__all__ = ["bucket_url", "endpoint_url", "opened", "proxy", "redis", "stopped_redis"]
