"""The tests of the service, whose own routes use the framework's means in place of the engine's."""

from streaming_service.engine import download, kernel, streams
from streaming_service.tutorial import bodies, pull

streams.ByteStream = pull.ByteStream
kernel.RequestBody = bodies.RequestBody
download.TransformRouter = bodies.TransformRouter
