"""A socket that one thread reads while others write, safe over TLS too.

On CPython a ``recv`` in one thread and a ``send`` in another on the same TLS socket
race as soon as the socket has a timeout, and now and then the connection is lost for
it. Here the socket is non-blocking, one lock covers each single read and each single
write, and all waiting happens outside that lock.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import threading
from collections import deque
from contextlib import suppress

from polysync.runtime.clock import Deadline

__all__ = ["READ", "WRITE", "LockedSocket", "wait_ready"]

#: How much is read at once, in bytes.
_AHEAD = 65536

#: Pieces that wait to be sent, from which on a list is slow to take the first.
_MANY = 64

#: What `wait_ready` waits for.
READ = 1
WRITE = 2
_MORE = WRITE | 4

#: What is read into, by one read at a time each. Bytes of the full size for each read,
#: cut down to what came, leave holes behind that the next read does not fit into: a
#: process of many conversations would grow for ever with nothing in it.
_spare: list[memoryview] = []
_SPARES = 16

_BLOCKED_READING = (BlockingIOError, ssl.SSLWantReadError)


class LockedSocket:
    """One reading thread, any number of writing ones, any thread to abort.

    Reading blocks, writing never does: `send` takes everything, and whoever finds
    something `unsent` after it sees to it that somebody calls `drain`. This way a pong
    can be sent from the reading thread without blocking it, and what is handed to one
    `send` is never mixed with another's.

    Args:
        sock: A connected socket, over TLS with its handshake done. It belongs to
            this object from now on and is made non-blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()
        #: Guards every read and write, and the outgoing buffer. Reentrant, so that a
        #: signal handler that comes in between fails rather than hangs.
        self._lock = threading.RLock()
        #: Guards the descriptor against being closed while it is shut down. Reentrant
        #: and never held for long, as the collector may abort from within.
        self._fd_lock = threading.RLock()
        self._ahead = b""
        self._at = 0
        #: Whether a read is worth a try before waiting: something may be there that
        #: TLS has taken in already, of which `select.poll` knows nothing.
        self._readable = True
        self._pending = getattr(sock, "pending", int)
        # A deque once there is much, as the mailbox of `Replies` is.
        self._out: list[bytes | memoryview] | deque[bytes | memoryview] = []
        self._taken = 0
        self._written = 0
        self._torn = False
        self._waiting = 0
        self._aborted = False
        self._closed = False
        #: When a `recv` that finds nothing gives up with `TimeoutError`.
        self.read_deadline: Deadline | None = None

    # Reading: one thread

    def recv(self, size: int) -> bytes:
        """Return at least 1 and at most ``size`` bytes, or ``b""`` at the end.

        Raises:
            TimeoutError: Nothing came before `read_deadline`.
            OSError: The connection broke.
        """
        if self.empty:
            self.fill()
        at = self._at
        self._at = end = at + size
        return self._ahead[at:end]

    @property
    def empty(self) -> bool:
        """Whether all that was read ahead has been taken."""
        return self._at >= len(self._ahead)

    def fill(self) -> None:
        """Read ahead, waiting until there is something, when it is `empty`.

        Afterwards something is there, or nothing will ever come again. Errors are
        those of `recv`.
        """
        # An idle connection is not to keep what came last.
        self._ahead, self._at = b"", 0
        self._ahead = self._read()

    def peek(self) -> tuple[bytes, int]:
        """Return what was read ahead, and where in it the next `recv` begins."""
        return self._ahead, self._at

    def skip(self, at: int) -> None:
        """Have the next `recv` begin at another place of what was read ahead."""
        self._at = at

    def _read(self) -> bytes:
        while True:
            wanted = READ
            with self._lock:
                if self._aborted or self._closed:
                    return b""
                if self._readable:
                    try:
                        data = _read_from(self._sock)
                    except _BLOCKED_READING:
                        self._readable = False
                    except ssl.SSLWantWriteError:
                        # A key update, say: TLS has to answer before it reads on.
                        wanted |= WRITE
                    else:
                        # The end, once seen, is there for ever.
                        self._readable = not data or self._pending() > 0
                        return data
            deadline = self.read_deadline
            timeout = None if deadline is None else deadline.remaining()
            if timeout == 0.0 or not wait_ready(self._fd, wanted, timeout):
                raise TimeoutError("nothing came in time")
            self._readable = True

    # Writing: any thread

    def send(self, data: bytes) -> int:
        """Take ``data`` and write what the socket accepts now. Never blocks.

        Returns:
            Always the length of ``data``.

        Raises:
            OSError: The connection is broken, aborted or closed.
        """
        with self._lock:
            self._check()
            self._out.append(data)
            if len(self._out) == _MANY:
                self._out = deque(self._out)
            self._taken += len(data)
            # Those who wait come first: else they would not even notice that the
            # socket had taken something.
            state = 0 if self._waiting else self._write()
        while state == _MORE:
            with self._lock:
                state = self._write()
        return len(data)

    @property
    def unsent(self) -> int:
        """How many bytes were taken and are not written yet."""
        return self._taken - self._written

    def drain(self, deadline: Deadline) -> None:
        """Wait until everything that was taken before this call is written.

        An exception from outside, such as `KeyboardInterrupt`, leaves the rest in the
        buffer for the next one who writes.

        Raises:
            TimeoutError: It was not, in time.
            OSError: The connection is broken, aborted or closed.
        """
        mark = self._taken
        while True:
            with self._lock:
                self._check()
                wanted = self._write()
                if self._written >= mark:
                    return
                if wanted == _MORE:
                    continue
                self._waiting += 1
            try:
                timeout = deadline.remaining()
                if timeout == 0.0 or not wait_ready(self._fd, wanted, timeout):
                    raise TimeoutError("the peer does not take what is sent")
            finally:
                self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._waiting -= 1
            last = self._closed and not self._waiting
        if last:
            self._release()

    def _check(self) -> None:
        if self._closed or self._aborted:
            raise ConnectionAbortedError("the connection is closed")
        if self._torn:
            raise ConnectionAbortedError("an earlier write was interrupted")

    def _write(self) -> int:
        """Do one write; say what the next one has to wait for. Needs the lock.

        One write at a time, so that a long message does not hold up the reader.
        """
        out = self._out
        if not out:
            return 0
        head = out[0]
        # An exception from outside (a signal) in the middle of this leaves it unknown
        # how much is written: nothing sensible can follow on this connection.
        self._torn = True
        try:
            sent = self._sock.send(head)
        except (BlockingIOError, ssl.SSLWantWriteError):
            self._torn = False
            return WRITE
        except ssl.SSLWantReadError:
            self._torn = False
            return READ
        if not sent:  # how gevent's TLS sockets say that they would block
            self._torn = False
            return WRITE
        self._written += sent
        if sent == len(head):
            del out[0]
        else:
            out[0] = memoryview(head)[sent:]
        self._torn = False
        return _MORE if out else 0

    # Ending

    def abort(self) -> None:
        """Wake the reader and the writers, for good. Idempotent, from any thread.

        The descriptor stays open until the reader calls `close`, so that it cannot be
        somebody else's by the time that a waiting thread looks at it again.
        """
        self._aborted = True
        # Not the TLS socket's own method: it would drop the TLS state under the threads
        # that are using it.
        with self._fd_lock, suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. Only for the reading thread, or when there is none."""
        self.abort()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._out.clear()
            idle = not self._waiting
        if idle:
            self._release()

    def forget(self) -> None:
        """Close the descriptor and nothing else, in the child after a fork.

        Takes no lock, as the thread that held it may not exist here.
        """
        self._aborted = self._closed = True
        self._sock.close()

    def _release(self) -> None:
        with self._fd_lock:
            self._sock.close()

    # What websocket-client asks of a socket besides

    def fileno(self) -> int:
        """Return the descriptor, -1 when it is closed."""
        return self._sock.fileno()

    def gettimeout(self) -> float:
        """Return 0: whoever calls need not wait around `recv` and `send`."""
        return 0.0

    def settimeout(self, timeout: float | None) -> None:
        """Give each `recv` from now on until then. ``None``: for ever."""
        self.read_deadline = None if timeout is None else Deadline(timeout)

    def shutdown(self, how: int) -> None:
        """Shut down both directions, whatever ``how`` says."""
        self.abort()


def _read_from(sock: socket.socket) -> bytes:
    """Return what a non-blocking socket has, errors as they come."""
    try:
        room = _spare.pop()
    except IndexError:
        room = memoryview(bytearray(_AHEAD))
    try:
        return bytes(room[: sock.recv_into(room)])
    finally:
        if len(_spare) < _SPARES:
            _spare.append(room)


def wait_ready(fd: int, wanted: int, timeout: float | None) -> bool:
    """Wait until a descriptor is ready; false when the time is over.

    Args:
        fd: The descriptor.
        wanted: `READ`, `WRITE` or both.
        timeout: Seconds, or ``None``.

    `select.poll` is looked up here and now, for gevent puts its own there.
    """
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(
            fd,
            (select.POLLIN if wanted & READ else 0)
            | (select.POLLOUT if wanted & WRITE else 0),
        )
        return bool(
            poller.poll(None if timeout is None else math.ceil(timeout * 1000.0))
        )
    reading = [fd] if wanted & READ else []
    writing = [fd] if wanted & WRITE else []
    # Windows tells of a connection that fails in the third list alone.
    return any(map(bool, select.select(reading, writing, writing, timeout)))
