"""The upgrade of a socket to a WebSocket, and what a refusal says."""

from __future__ import annotations

import re
from collections.abc import Iterable

from polysync.runtime.redact import describe
from polysync.runtime.rest import error_text
from polysync.runtime.socket import LockedSocket

__all__ = ["Upgrade"]

#: The longest answer, in bytes.
_LONGEST = 64 * 1024


class Upgrade:
    """The socket as websocket-client sees it during the upgrade.

    It bounds the answer in length and time, keeps what it says whatever else goes
    wrong with it, and takes out cookies, which websocket-client would share with the
    whole process.

    Args:
        sock: The connected socket; its ``read_deadline`` bounds the upgrade.
    """

    def __init__(self, sock: LockedSocket) -> None:
        self._sock = sock
        self._line = b""
        self._size = 0
        self._in_head = True
        self._overlong = False
        #: The HTTP status of the answer, once it is known.
        self.status: int | None = None
        #: Its ``Retry-After``.
        self.retry_after: str | None = None

    def explain(self, error: Exception, timed_out: bool, secrets: Iterable[str]) -> str:
        """Say in words why there is no WebSocket.

        Args:
            error: What the upgrade raised.
            timed_out: Whether that was for lack of time.
            secrets: What must not show.
        """
        status = self.status
        if self._overlong:
            return f"the answer to the upgrade is longer than {_LONGEST} bytes"
        if timed_out:
            return "there was no whole answer to the upgrade in time"
        if status is None:
            if self._size:
                return "the answer to the upgrade is not HTTP"
            if isinstance(error, OSError):
                return f"the connection broke during the upgrade: {describe(error)}"
            return "the server closed the connection instead of upgrading it"
        if status == 101:
            return "the server's upgrade is not a valid WebSocket handshake"
        if 300 <= status < 400:
            return f"the server redirects elsewhere ({status})"
        if status < 300:
            return (
                f"the server answered {status} instead of upgrading: a proxy or a "
                "captive portal may stand in between"
            )
        said = error_text(getattr(error, "resp_body", None) or b"", secrets)
        return f"the server refused the connection ({status})" + (
            f": {said}" if said else ""
        )

    # What websocket-client calls

    def recv(self, size: int) -> bytes:
        """Return some of the answer, as a socket would."""
        while not self._line:
            if not self._in_head:
                return self._read(size)
            line = self._read_line()
            if not line:
                return b""
            self._look_at(line)
        data, self._line = self._line[:size], self._line[size:]
        return data

    def send(self, data: bytes) -> int:
        """Send the request."""
        return self._sock.send(data)

    def gettimeout(self) -> float:
        """Return 0: whoever calls need not wait around `recv` and `send`."""
        return 0.0

    def close(self) -> None:
        """Leave it open: the reader thread closes the socket at its end."""

    def _read_line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self._read(1)
            if not byte:
                return b""
            line += byte
        return bytes(line)

    def _read(self, size: int) -> bytes:
        deadline = self._sock.read_deadline
        if deadline is not None and deadline.expired:
            # A trickle of bytes would never time out by itself.
            raise TimeoutError("out of time")
        data = self._sock.recv(size)
        self._size += len(data)
        if self._size > _LONGEST:
            self._overlong = True
            raise ConnectionAbortedError("the answer is too long")
        return data

    def _look_at(self, line: bytes) -> None:
        text = line.decode("latin-1").strip()
        name, _, value = text.partition(":")
        if self.status is None:
            found = re.match(r"HTTP/\d(?:\.\d)? (\d{3})\b", text)
            if found is None:
                raise ConnectionAbortedError("not an HTTP answer")
            self.status = int(found[1])
        elif name.lower() == "retry-after":
            self.retry_after = value.strip()
        elif name.lower().startswith("set-cookie"):
            return
        if not text:
            self._in_head = False
        # websocket-client insists on UTF-8.
        self._line = line if line.isascii() else text.encode() + b"\r\n"
