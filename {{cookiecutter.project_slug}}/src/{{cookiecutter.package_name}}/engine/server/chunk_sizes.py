"""The ends of the chunks of a body, found before it is parsed. Source: RFC 9112, section 7.1.

Parsing costs time per chunk and not per byte, so a slice of a chunked body ends after CHUNKS
chunks.
"""

import re

#: Chunks in one slice.
CHUNKS = 64
#: The line with the size of a chunk, without an extension, and the maximum length of that line.
_SIZE = re.compile(rb"(?=0*[1-9A-Fa-f])([0-9A-Fa-f]{1,16})\r\n")
_LONGEST = 18


class ChunkSizes:
    """Follows the chunks of one body."""

    def __init__(self) -> None:
        #: Bytes before the next line with a size; None after a line that cannot be parsed.
        self._before_size: int | None = 0
        #: The beginning of that line, if the last read ended in it.
        self._line = b""

    def slice_end(self, data: bytes, start: int) -> int:
        """Return the end of the slice that begins at `start`; it may be beyond that of `data`.

        Returns `start` if no chunk is known to begin there, such as at the last, empty chunk.
        """
        if self._before_size is None:
            return start
        end, line = start + self._before_size, self._line
        self._line = b""
        for _ in range(CHUNKS):
            if end >= len(data):
                break
            begun = len(line)
            line += data[end : end + _LONGEST - begun]
            match = _SIZE.match(line)
            if match is None:
                if len(line) < _LONGEST:  # The rest of it is in the next read.
                    self._line, end = line, len(data)
                elif end == start:
                    self._before_size = None
                    return start
                break
            end += match.end() - begun + int(match[1], 16) + len(b"\r\n")
            line = b""
        self._before_size = max(end - len(data), 0)
        return end
