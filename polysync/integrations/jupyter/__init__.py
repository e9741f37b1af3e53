"""Conversations in notebooks: rich displays, and a chat to talk in.

::

    from polysync import Client
    from polysync.integrations.jupyter import ChatWidget

    ChatWidget(Client())

Importing this module in IPython, or ``%load_ext polysync.integrations.jupyter``, lets
messages, transcripts, clients and pool statistics show themselves as HTML wherever a
cell ends with one. What an agent wrote is made safe first, and nothing is fetched from
anywhere to show it.

Needs ``ipywidgets``, ``markdown-it-py`` and ``nh3``; the ``jupyter`` extra brings them.
"""

from __future__ import annotations

from typing import Any

try:
    # Not used here: only to say better than Python does what is missing. ipywidgets
    # comes without types.
    import ipywidgets as _ipywidgets  # type: ignore[import-untyped]  # noqa: F401
    import markdown_it as _markdown_it  # noqa: F401
    import nh3 as _nh3  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "polysync.integrations.jupyter needs ipywidgets, markdown-it-py and nh3; "
        "install them with: pip install 'polysync[jupyter]'"
    ) from error

from polysync.integrations.jupyter.displays import register, unregister
from polysync.integrations.jupyter.widget import ChatWidget

__all__ = ["ChatWidget", "load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: Any) -> None:
    """Show polysync's values as HTML from now on; for ``%load_ext``.

    Args:
        shell: The running ``InteractiveShell``.
    """
    register(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Show them as plain text again; for ``%unload_ext``."""
    unregister(shell)


def _load() -> None:
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is not None:
        register(shell)


_load()
