"""The sandbox of the process: what ``Client(environment="sandbox")`` talks to."""

from __future__ import annotations

import atexit
import os
import threading

from polysync.sandbox.server import Sandbox

__all__ = ["embedded"]

_lock = threading.Lock()
_sandbox: Sandbox | None = None


def embedded() -> Sandbox:
    """Return the running sandbox of this process; start it at the first call.

    It stops when the interpreter exits. The child of a fork gets one of its own,
    because threads do not survive a fork.
    """
    global _sandbox
    with _lock:
        if _sandbox is None or not _sandbox.running:
            inherited, _sandbox = _sandbox, Sandbox()
            if inherited is None:
                atexit.register(_stop)
            else:
                # In the child of a fork, lets go of the parent's listening socket.
                inherited.stop()
            _sandbox.start()
        return _sandbox


def _stop() -> None:
    if _sandbox is not None:
        _sandbox.stop()


def _renew_lock() -> None:
    # Another thread of the parent may have held the lock when the process forked.
    global _lock
    _lock = threading.Lock()
    if _sandbox is not None:
        _sandbox._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
