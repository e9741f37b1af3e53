"""Counts a client's connections and what goes over them, for `Client.statistics`.

Connections count for themselves, as their threads do not share a lock; what those have
counted that are gone is summed up here.
"""

from __future__ import annotations

from polysync.runtime.websocket import Connection

__all__ = ["Meters"]


class Meters:
    """The counters of one client. Needs the client's lock."""

    __slots__ = ("_gone", "_live", "_session_id", "connections", "reconnects")

    def __init__(self) -> None:
        #: Connections that were opened.
        self.connections = 0
        #: Those among them that took up a session again.
        self.reconnects = 0
        self._session_id: str | None = None
        self._live: list[Connection] = []
        self._gone = (0, 0, 0, 0)

    def made(self, connection: Connection) -> None:
        """There is a connection, which counts from now on."""
        self._live.append(connection)

    def opened(self, session_id: str | None) -> None:
        """A connection has taken up the session."""
        self.connections += 1
        if session_id == self._session_id:
            self.reconnects += 1
        self._session_id = session_id

    def lost(self, connection: Connection) -> None:
        """A connection is gone and counts no further."""
        if connection in self._live:
            self._live.remove(connection)
            self._gone = _sum(self._gone, connection)

    def traffic(self) -> tuple[int, int, int, int]:
        """Return frames in and out, and bytes in and out."""
        total = self._gone
        for connection in self._live:
            total = _sum(total, connection)
        return total


def _sum(
    total: tuple[int, int, int, int], connection: Connection
) -> tuple[int, int, int, int]:
    frames_in, frames_out, bytes_in, bytes_out = total
    return (
        frames_in + connection.frames_in,
        frames_out + connection.frames_out,
        bytes_in + connection.bytes_in,
        bytes_out + connection.bytes_out,
    )
