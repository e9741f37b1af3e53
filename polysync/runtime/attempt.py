"""One try to get something over the network: bounded in time, and stoppable."""

from __future__ import annotations

import errno
import functools
import os
import queue
import socket
import threading
import weakref
from contextlib import suppress
from typing import Any

from polysync.errors import ClientClosedError
from polysync.runtime import threads
from polysync.runtime.cancel import Cancel
from polysync.runtime.clock import Deadline, monotonic
from polysync.runtime.socket import WRITE, wait_ready
from polysync.runtime.timers import Timer

__all__ = ["Attempt", "closed", "connect", "here"]

#: What a resolver's thread is given to end once nobody waits for it, in seconds.
_LAST_WORD = 0.2

#: How long one of several addresses may take before the next is tried, in seconds.
_PATIENCE = 4.0


class Attempt:
    """One request or one dialling: its deadline, and the socket that it is blocked on.

    The socket is shut down through a duplicate of its descriptor, for the socket
    object itself is replaced when TLS is put over it.
    """

    def __init__(self, deadline: Deadline, cancel: Cancel) -> None:
        self.deadline = deadline
        self.cancel = cancel
        #: The address that a connection was made to.
        self.reached: object = None
        #: Whether it was a kept connection, which may have gone stale unnoticed.
        self.reused = False
        self._lock = threading.RLock()
        self._handle: socket.socket | None = None
        self._finished = False
        self._stopped = False
        # Bounds what a timeout for each single read cannot: a trickle of bytes.
        self._timer = Timer(self.abort)
        left = deadline.remaining()
        if left is not None:
            self._timer.set(monotonic() + left)
        _attempts.add(self)

    def remaining(self) -> float | None:
        """Return the seconds left, raising if there are none."""
        left = self.deadline.remaining()
        if left == 0.0:
            raise TimeoutError("out of time")
        return left

    def check(self) -> None:
        """Raise if there is nothing left to try for."""
        if self.cancel.cancelled:
            raise closed()
        self.remaining()

    def hold(self, sock: socket.socket) -> None:
        """Make this the socket that `abort` shuts down."""
        handle = socket.fromfd(sock.fileno(), sock.family, sock.type)
        with self._lock:
            before, self._handle = self._handle, handle
            stopped = self._stopped
        if before is not None:
            before.close()
        if stopped:
            self.abort()

    def abort(self) -> None:
        """Shut the socket down, unless the work on it is done."""
        with self._lock:
            self._stopped = True
            if self._handle is not None and not self._finished:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """Say that all went well: from now on the socket is not touched."""
        with self._lock:
            self._finished = True
            stopped = self._stopped
        if stopped:
            raise TimeoutError("out of time")

    def end(self) -> None:
        """Let go of everything."""
        self._timer.cancel()
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def forget(self) -> None:
        """Close the descriptor and nothing else, in the child after a fork."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()


class _Here:
    """The attempt of this thread, for the connections that urllib3 makes in it.

    A `threading.local` would keep 400 bytes in every thread that has ever had one.
    """

    def __init__(self) -> None:
        self._attempts: dict[int, Attempt] = {}

    @property
    def attempt(self) -> Attempt | None:
        return self._attempts.get(threading.get_ident())

    @attempt.setter
    def attempt(self, attempt: Attempt | None) -> None:
        if attempt is None:
            self._attempts.pop(threading.get_ident(), None)
        else:
            self._attempts[threading.get_ident()] = attempt

    def reset(self) -> None:
        """Forget those of threads that a child process does not have."""
        self._attempts = {}


here = _Here()


def _resolve(host: str, port: int, attempt: Attempt) -> list[Any]:
    """Look a name up, in a thread, as nothing else can stop the system's resolver."""
    lookup = functools.partial(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    try:
        return socket.getaddrinfo(
            host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        pass
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def look() -> None:
        try:
            found.put(lookup())
        except Exception as error:
            found.put(error)

    with attempt.cancel.attached(functools.partial(found.put, None)):
        thread = threads.spawn("resolver", look)
        try:
            answer = found.get(timeout=attempt.remaining())
        except queue.Empty:
            raise TimeoutError("the name was not resolved in time") from None
    # It has ended or soon will, unless the resolver hangs, which nobody can help.
    thread.join(_LAST_WORD)
    if answer is None:
        raise closed()
    if isinstance(answer, Exception):
        raise answer
    return list(answer)


def connect(host: str, port: int, attempt: Attempt) -> socket.socket:
    """Connect to the first address of the host that answers."""
    addresses = _resolve(host.strip("[]"), port, attempt)
    failure: OSError = OSError("no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        left = attempt.remaining()
        if index < len(addresses):
            # Leave time for the others: a network may swallow one family's packets.
            left = _PATIENCE if left is None else min(left / 2, _PATIENCE)
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            attempt.hold(sock)
            _connect_to(sock, address, left, attempt)
            attempt.reached = address
            sock.settimeout(attempt.remaining())
            return sock
        except OSError as error:
            sock.close()
            attempt.check()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure


def _connect_to(
    sock: socket.socket, address: Any, timeout: float | None, attempt: Attempt
) -> None:
    """Connect a socket, in a way that an abort can end."""
    sock.setblocking(False)
    error = sock.connect_ex(address)
    # Only a connection that is on its way is ended by a shutdown: an abort that came
    # before it was is seen here, one that comes later wakes the wait.
    attempt.check()
    if error in (errno.EINPROGRESS, errno.EWOULDBLOCK):
        if not wait_ready(sock.fileno(), WRITE, timeout):
            raise TimeoutError("the address does not answer")
        attempt.check()
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def closed() -> ClientClosedError:
    """Return the error of a call that was cancelled."""
    return ClientClosedError("The client was closed while it was connecting.")


_attempts: weakref.WeakSet[Attempt] = weakref.WeakSet()


def _after_fork() -> None:
    """Close the child's copies of descriptors that the parent is busy with."""
    here.reset()
    for attempt in list(_attempts):
        attempt.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
