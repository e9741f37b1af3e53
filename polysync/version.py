"""The version: of the package, and in the ``User-Agent`` of its requests.

It stands in ``setup.cfg`` too. Asking the installed package for it would take 2 ms of
every process's first connection, more than making the connection does.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
