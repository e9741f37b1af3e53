"""How and why a connection ended, as far as it is known."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Loss"]


class Loss(NamedTuple):
    """The end of one connection, or the reason why it never opened."""

    #: HTTP status of a refused handshake.
    status: int | None = None
    #: Close code of an opened connection; 1006 when there was no close frame.
    close_code: int | None = None
    #: What happened, in words for people. Holds no secret.
    reason: str = ""
    #: Seconds after which the server asked to be tried again.
    retry_after: float | None = None
    #: Whether the connection was ever open.
    opened: bool = False
    #: False when trying again cannot help, as with a certificate that is refused.
    retryable: bool = True
