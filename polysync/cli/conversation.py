"""The conversation that a chat is about: the client, and who hears of what it says."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from pathlib import Path
from typing import Protocol

from polysync.cli.readable import readable_line
from polysync.cli.recording import Recording
from polysync.cli.reporting import CommandError
from polysync.client import Client
from polysync.errors import (
    ClientClosedError,
    ConnectionLostError,
    PolysyncError,
    SessionEndedError,
)
from polysync.events import Event, Message
from polysync.models import ConnectionChange, ConnectionStatus, HandoffStatus

__all__ = ["Conversation", "Listener"]

#: Seconds that the server has to confirm the end.
_END_TIMEOUT = 5.0

#: … when there is no connection, which may come back just then.
_OFFLINE_END_TIMEOUT = 1.0


_WAITING = (HandoffStatus.REQUESTED, HandoffStatus.QUEUED, HandoffStatus.ACCEPTED)


class Listener(Protocol):
    """Who shows the conversation; called on the client's callback thread."""

    def event(self, event: Event) -> None:
        """Something has come from the server."""

    def connection(self, change: ConnectionChange) -> None:
        """The connection has changed."""

    def trouble(self, error: BaseException) -> None:
        """Something went wrong that no call raises."""

    def over(self) -> None:
        """There will be no more: the conversation has ended, or cannot go on."""


class Conversation:
    """A client, what it has offered last, and how it came to its end.

    Args:
        client: A client that is not connected yet.
        listener: Who shows the conversation.
        recording: Where to keep the events.
        sandboxed: Whether the server ends with this program.
    """

    def __init__(
        self,
        client: Client,
        listener: Listener,
        *,
        recording: Recording | None = None,
        sandboxed: bool = False,
    ) -> None:
        self.client = client
        self.sandboxed = sandboxed
        #: What went wrong for good, if it did.
        self.error: BaseException | None = None
        #: Whether a message could not be sent or was not answered.
        self.flawed = False
        #: The file that keeps what it takes to go on, once it was left open.
        self.detached = ""
        self._listener = listener
        self._recording = recording
        self._over = threading.Event()
        client.on_event(self._event)
        client.on_connection_change(self._connection)
        client.on_error(self._error)

    @property
    def over(self) -> bool:
        """Whether the conversation has ended or cannot go on."""
        return self._over.is_set()

    @property
    def suggestions(self) -> tuple[str, ...]:
        """The texts that the last message offers.

        Asked of the client: the callbacks may be behind what `ask` has returned.
        """
        said = [item for item in self.client.transcript if item.role != "system"]
        offered = said[-1].response_suggestions if said else ()
        return tuple(suggestion.message_text for suggestion in offered)

    # Who is there

    def speaker(self, message: Message | None = None) -> str:
        """Return the name of who wrote a message, or would write the next."""
        human = (
            self.client.live_agent is not None
            if message is None
            else message.is_live_agent
        )
        known = self.client.live_agent if human else self.client.agent
        name = (message.agent_name if message is not None else None) or (
            known.name if known is not None else None
        )
        return readable_line(name) or ("Live agent" if human else "Agent")

    @property
    def queued(self) -> bool:
        """Whether a human has been asked for and is not there yet."""
        handoff = self.client.handoff
        return handoff is not None and handoff.status in _WAITING

    # On the callback thread

    def _event(self, event: Event) -> None:
        if self._recording is not None:
            self._recording.add(event)
        self._listener.event(event)

    def _connection(self, change: ConnectionChange) -> None:
        self._listener.connection(change)
        if change.status in (ConnectionStatus.CLOSED, ConnectionStatus.FAILED):
            self._over.set()
            self._listener.over()

    def _error(self, error: Exception) -> None:
        if isinstance(error, (ConnectionLostError, SessionEndedError)) or (
            self.client.status is ConnectionStatus.FAILED
        ):
            self.error = self.error or error
        else:
            self._listener.trouble(error)

    # On the thread of the chat

    def ask(self, text: str) -> bool:
        """Send a message and wait for the answer; return whether more can be sent."""
        try:
            self.client.ask(text)
        except (SessionEndedError, ClientClosedError):
            return False
        except ConnectionLostError as error:
            self.error = self.error or error
            return False
        except PolysyncError as error:
            self.flawed = True
            self._listener.trouble(error)
        return True

    def typing(self, text: str) -> None:
        """Show a human at the other end that something is being typed."""
        if text and not text.startswith("/") and self.client.live_agent is not None:
            with contextlib.suppress(PolysyncError):
                self.client.send_typing()

    def detach(self, path: str) -> None:
        """Leave the conversation open, with what it takes to go on in a file.

        Raises:
            CommandError: It is not possible, or the file cannot be written; the
                conversation then goes on.
        """
        if self.sandboxed:
            raise CommandError(
                "The built-in sandbox ends with this program, and the conversation "
                "with it. `polysync sandbox` runs one that stays."
            )
        state = self.client.state
        if state is None or self.over:
            raise CommandError("There is no conversation to come back to.")
        # Before leaving: who cannot write the file should be able to go on.
        write_private(path, state.to_json() + "\n")
        state = self.client.detach()
        write_private(path, state.to_json() + "\n")
        self.detached = path

    def end(self) -> None:
        """End the conversation on the server, and hear of everything until then.

        Raises:
            PolysyncError: The server did not confirm it.
        """
        try:
            if not (self.over or self.detached):
                online = self.client.status is ConnectionStatus.OPEN
                self.client.end_session(
                    timeout=_END_TIMEOUT if online else _OFFLINE_END_TIMEOUT
                )
        except (SessionEndedError, ClientClosedError):
            pass
        finally:
            self.client.close()

    def save(self) -> int | None:
        """Write the recording, if there is to be one; return its number of events."""
        if self._recording is None:
            return None
        return self._recording.save(self.client.history)


def write_private(path: str, text: str) -> None:
    """Replace a file by one that its owner alone can read.

    Raises:
        CommandError: It cannot be written.
    """
    target = Path(path)
    try:
        descriptor, name = tempfile.mkstemp(dir=target.absolute().parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
