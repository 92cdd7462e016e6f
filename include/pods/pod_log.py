"""A container's log as the Kubernetes API gives it with timestamps: each line once, however often it is read again."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime

from include.errors import clip

#: RFC 3339 with as many digits of the second as are not zero.
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")
_LINE_BYTES = 16_384
_TAIL_LINES, _TAIL_CHARACTERS = 60, 500
_MARGIN_SECONDS = 10.0


class PodLog:
    """Takes the bytes of one or more reads of a log, and tells every line once.

    Args:
        tell: Is called with each line, without its timestamp.
        clock: Seconds since the epoch.

    Attributes:
        tail: The last lines, clipped.
    """

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._tell, self._clock = tell, clock
        self._rest = b""
        self._skipping = False
        self._last, self._alike = "", 0  # timestamp of the last line that was told, and how many of it were
        self._known = ("", 0)  # the same, when the present read began: so far it brings nothing new
        self._told_at = 0.0

    def restart(self) -> None:
        """The next bytes are of another read."""
        self._rest, self._skipping = b"", False
        self._known = (self._last, self._alike)

    def feed(self, data: bytes) -> None:
        """The next bytes of the present read. Of a line without end, only its beginning is told."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._skipping:
                self._take(line)
            self._skipping = False
        if len(rest) > _LINE_BYTES:
            if not self._skipping:
                self._take(rest[:_LINE_BYTES] + b"... [cut]")
            rest, self._skipping = b"", True
        self._rest = rest

    def close(self) -> None:
        """The read ended of itself: what is left is a line."""
        if self._rest:
            self._take(self._rest)
        self._rest, self._skipping = b"", False

    def since_seconds(self) -> int | None:
        """From how far back the next read must begin to miss nothing; None where nothing was told yet.

        The time of the line is the node's, and the node's clock may go wrong; ours does not know how far we are behind.
        """
        if not self._last:
            return None
        age = self._clock() - datetime.fromisoformat(self._last[:19] + "+00:00").timestamp()
        return int(max(age, self._clock() - self._told_at) + _MARGIN_SECONDS)

    def _take(self, line: bytes) -> None:
        stamp = _STAMP.match(line)
        if stamp:
            at = f"{stamp[1].decode()}.{(stamp[2] or b'').decode():0<9}"
            if self._is_known(at):
                return
            self._alike = self._alike + 1 if at == self._last else 1
            self._last = at
        self._told_at = self._clock()
        text = line[stamp.end() if stamp else 0 :].decode("utf-8", "replace").rstrip("\r")
        self.tail.append(clip(text, _TAIL_CHARACTERS))
        self._tell(text)

    def _is_known(self, at: str) -> bool:
        last, alike = self._known
        if at == last and alike > 0:
            self._known = (last, alike - 1)
            return True
        return at < last
