"""Warns of interpreters and servers in which threads are known not to work.

Only what cannot be worked around and would look like a bug of polysync is here.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping

__all__ = ["check_surroundings"]

#: The release in which a receive and a send on one TLS socket in two threads deadlock
#: (python/cpython#137583); those before and after it do not.
DEADLOCKING_RELEASE = (3, 13, 6)


def check_surroundings() -> None:
    """Issue a `RuntimeWarning` for whatever stands in the way of a client."""
    if sys.version_info[:3] == DEADLOCKING_RELEASE:
        warnings.warn(
            "CPython 3.13.6 deadlocks when one thread receives and another sends over "
            "TLS (python/cpython#137583), as polysync does: use another release",
            RuntimeWarning,
            stacklevel=5,
        )
    # uWSGI makes the module only inside its own workers.
    uwsgi = sys.modules.get("uwsgi")
    options = getattr(uwsgi, "opt", None)
    if options is not None and not _switched_on(options, "enable-threads", "threads"):
        warnings.warn(
            "uWSGI runs without threads, so nothing can be received between requests: "
            "start it with --enable-threads",
            RuntimeWarning,
            stacklevel=5,
        )


def _switched_on(options: Mapping[str | bytes, object], *names: str) -> bool:
    for name in names:
        value = options.get(name, options.get(name.encode()))
        if value not in (None, False, b"0", b"false", "0", "false"):
            return True
    return False
