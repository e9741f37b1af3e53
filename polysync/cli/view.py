"""What all ways of showing a chat have in common; those that read and write lines."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Future

from polysync.cli.conversation import Conversation
from polysync.cli.lines import Lines
from polysync.cli.notices import connection_notice
from polysync.cli.reporting import CommandError, report
from polysync.cli.typed import COMMANDS, Misunderstood, Order, Say, understand
from polysync.errors import ClientClosedError, PolysyncError, SessionEndedError
from polysync.events import Event, UserMessage
from polysync.models import ConnectionChange, ConnectionStatus

__all__ = ["LineView", "View", "help_lines"]


def help_lines() -> list[str]:
    """Return what ``/help`` shows."""
    width = max(len(name) for name, _ in COMMANDS)
    return [f"{name:<{width}}  {meaning}" for name, meaning in COMMANDS]


class View(ABC):
    """Shows a conversation and takes what the user types."""

    #: How far `Client.connect` waits before `converse` is called.
    wait = "greeting"

    conversation: Conversation

    @abstractmethod
    def event(self, event: Event) -> None:
        """Show an event. On the callback thread, as the next three are."""

    @abstractmethod
    def connection(self, change: ConnectionChange) -> None:
        """Show that the connection has changed."""

    def trouble(self, error: BaseException) -> None:
        """Show an error that the conversation survives."""
        self.say(str(error))

    @abstractmethod
    def over(self) -> None:
        """Let `converse` return: there will be no more."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Tell the user something that is not of the conversation."""

    def refuse(self, reason: str) -> None:
        """Say why a command cannot be followed."""
        self.say(reason)

    @abstractmethod
    def opening(self, name: str) -> None:
        """Show that a connection to the server of this name is being made."""

    @abstractmethod
    def opened(self, name: str) -> None:
        """Show that there is a connection, to the server of this name."""

    @abstractmethod
    def converse(self) -> None:
        """Take what the user types, until they leave or all is over."""

    @abstractmethod
    def tell_history(self) -> None:
        """Show the conversation so far."""

    @abstractmethod
    def closed(self) -> None:
        """Show what is left to be shown: everything has been heard of."""

    def obey(self, order: Order) -> bool:
        """Do what a command says; return whether it is one to leave."""
        if order.name == "help":
            for line in help_lines():
                self.say(line)
        elif order.name == "history":
            self.tell_history()
        elif order.name == "detach":
            try:
                self.conversation.detach(order.argument)
            except CommandError as error:
                self.refuse(str(error))
                return False
            return True
        return order.name in ("end", "quit")


class LineView(View):
    """Reads lines from standard input, and writes lines.

    At a terminal, whatever is typed is sent at once. From a pipe or a file, each
    message waits for the answer to the one before.
    """

    #: Whether a number alone picks a suggestion.
    bare_numbers = True

    def __init__(self) -> None:
        self._typed = sys.stdin is not None and sys.stdin.isatty()
        self._lines: Lines | None = None
        self._lost = False
        self._unsent = 0
        self._write_lock = threading.Lock()
        #: Nobody reads what is written any more.
        self._unread: BrokenPipeError | None = None

    def say(self, text: str) -> None:
        report(text)

    def refuse(self, reason: str) -> None:
        # In a script a mistake should not go unnoticed; people see it themselves.
        self.conversation.flawed |= not self._typed
        self.say(reason)

    def opening(self, name: str) -> None:
        """Nothing: lines stay, and this would soon be wrong."""

    def connection(self, change: ConnectionChange) -> None:
        shown = connection_notice(change, self._lost)
        if change.status is ConnectionStatus.RECONNECTING:
            self._lost = True
        elif change.status is ConnectionStatus.OPEN:
            self._lost = False
        if shown is not None:
            self.say(shown.text)

    def over(self) -> None:
        lines = self._lines
        if lines is not None:
            lines.stop()

    def write(self, text: str) -> None:
        """Write lines to standard output; from any thread, each call in one piece."""
        with self._write_lock:
            if self._unread is not None:
                return
            try:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()
            except BrokenPipeError as error:
                self._unread = error
        if self._unread is not None:
            self.over()

    def converse(self) -> None:
        if sys.stdin is None:
            return
        with Lines(sys.stdin) as lines:
            self._lines = lines
            try:
                while not self.conversation.over and self._unread is None:
                    line = lines.next()
                    if line is None or self._take(line):
                        break
                self._tell_unsent(lines.left)
            finally:
                self._lines = None
        self._raise_if_unread()

    def closed(self) -> None:
        self._raise_if_unread()

    def _raise_if_unread(self) -> None:
        if self._unread is not None:
            raise self._unread

    def _take(self, line: str) -> bool:
        """Do what a line says; return whether to leave."""
        offered = self.conversation.suggestions
        typed = understand(line, offered, bare_numbers=self.bare_numbers)
        if isinstance(typed, Order):
            return self.obey(typed)
        if isinstance(typed, Misunderstood):
            self.refuse(typed.reason)
        elif isinstance(typed, Say) and self._typed:
            self._submit(typed.text)
        elif isinstance(typed, Say) and not self.conversation.ask(typed.text):
            self._unsent = 1
            return True
        return False

    def _tell_unsent(self, left: int) -> None:
        """Say how much of the input is left when the conversation ends early."""
        count = self._unsent + left
        ended = self._unsent or self.conversation.over
        if ended and count and not (self._typed or self.conversation.detached):
            lines = "1 line" if count == 1 else f"{count} lines"
            self.say(f"the conversation is over; not sent: {lines}")

    def _submit(self, text: str) -> None:
        try:
            future = self.conversation.client.submit_message(text)
        except (SessionEndedError, ClientClosedError):
            pass  # what ended it has been shown
        except PolysyncError as error:
            self.trouble(error)
        else:
            future.add_done_callback(self._submitted)

    def _submitted(self, future: Future[UserMessage]) -> None:
        error = future.exception()
        if error is not None and not self.conversation.over:
            self.trouble(error)
