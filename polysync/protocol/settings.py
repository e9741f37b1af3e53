"""The settings that the rules of a conversation depend on."""

from __future__ import annotations

import attrs

from polysync.models import Value

__all__ = [
    "DEFAULT_HEARTBEAT_INTERVAL",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "DEFAULT_MAX_RECONNECTS",
    "Settings",
]

#: Seconds between heartbeats when nobody says otherwise.
DEFAULT_HEARTBEAT_INTERVAL = 30.0

#: Bytes of a whole frame when the session does not say otherwise.
DEFAULT_MAX_MESSAGE_SIZE = 131_072

#: Reconnection attempts in a row when nobody says otherwise.
DEFAULT_MAX_RECONNECTS = 10


@attrs.frozen(eq=False, repr=False, weakref_slot=False, kw_only=True)
class Settings(Value):
    """What the user may set of the rules; times in seconds."""

    timeout: float = 30.0
    heartbeat_interval: float | None = None
    heartbeat_timeout: float = 10.0
    max_reconnects: int | None = None
    reconnect_delay: float = 1.0
    reconnect_delay_max: float = 30.0
    resend: bool = True
    history_limit: int | None = None
