"""What a sandbox can be told: the limits, times and habits of the server it plays."""

from __future__ import annotations

import attrs

__all__ = ["Settings"]


@attrs.frozen(kw_only=True)
class Settings:
    """The knobs of a `Sandbox`, each with the real server's value as its default.

    All times are seconds, all sizes are bytes.

    Attributes:
        heartbeat_interval_seconds: What ``SESSION_START`` says; `None` leaves it out.
        max_reconnect_attempts: What ``SESSION_START`` says; `None` leaves it out.
        max_message_size_bytes: What ``SESSION_START`` says, and the largest message
            taken: a larger one closes the connection with 1009. `None` leaves it out,
            0 is announced, and either means no limit.
        announce_capabilities: Whether ``SESSION_START`` has ``capabilities`` at all.
        streaming: Whether clients that ask for chunks get them.
        idle_timeout: How long a client may send nothing before its session ends.
        idle_warning: After how long of that it gets ``SESSION_IDLE_WARNING``.
        max_connections: How many connections a session may have at once.
        max_frame_size_bytes: The largest WebSocket frame taken; 0 for no limit.
        connection_lifetime: When a connection is closed with 1001; `None` for never.
        access_token_lifetime: How long an access token is valid.
        chunk_delay: The pause between the chunks of a reply.
        reply_delay: The pause before a reply, and between the steps of a handoff.
        batch_size: How many events of the history go into one ``EVENT_BATCH``.
        empty_batch: Whether a client that has missed nothing gets an empty one.
        message_rate: How many messages a second a connection may send. What is over
            the limit is dropped without a word. `None` for no limit.
        record_limit: How many requests and frames `Sandbox.received` keeps.
        session_limit: How many sessions that have ended `Sandbox.sessions` keeps. The
            one that ended first is forgotten first, and is then as unknown as one
            that never was.
    """

    heartbeat_interval_seconds: int | None = 30
    max_reconnect_attempts: int | None = 10
    max_message_size_bytes: int | None = 131_072
    announce_capabilities: bool = True
    streaming: bool = True
    idle_timeout: float = 600.0
    idle_warning: float | None = None
    max_connections: int = 10
    max_frame_size_bytes: int = 32_768
    connection_lifetime: float | None = 7200.0
    access_token_lifetime: float = 86_400.0
    chunk_delay: float = 0.0
    reply_delay: float = 0.0
    batch_size: int = 100
    empty_batch: bool = True
    message_rate: float | None = None
    record_limit: int = 100_000
    session_limit: int = 10_000
