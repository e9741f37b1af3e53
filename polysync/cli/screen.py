"""The chat in a terminal: a prompt at the bottom, the conversation growing above it.

One prompt runs in the main thread for as long as the chat lasts. Callbacks, on the
client's thread, only change what is kept here; the prompt's own loop draws. What is
finished is printed once, above the prompt; what is not finished (a reply that grows,
who is typing, a message on its way) is drawn as a part of the prompt.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from types import FrameType
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style
from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from polysync.cli.drawing import (
    AGENT,
    HUMAN,
    USER,
    draw_item,
    draw_message,
    draw_notice,
    draw_said,
)
from polysync.cli.growing import Growing
from polysync.cli.notices import Notice, connection_notice, notice
from polysync.cli.readable import readable
from polysync.cli.typed import Misunderstood, Order, Say, understand
from polysync.cli.view import View, help_lines
from polysync.errors import ClientClosedError, PolysyncError, SessionEndedError
from polysync.events import Event, LiveAgentMessage, PolyAgentMessage, UserMessage
from polysync.models import ConnectionChange, ConnectionStatus

__all__ = ["Screen"]

_STYLE = Style.from_dict({"bottom-toolbar": "noreverse ansibrightblack"})

_STATES = {
    ConnectionStatus.OPEN: ("ansigreen", "●", "connected"),
    ConnectionStatus.CONNECTING: ("ansiyellow", "○", "connecting"),
    ConnectionStatus.RECONNECTING: ("ansiyellow", "○", "reconnecting"),
}
_NO_STATE = ("ansired", "○", "not connected")

#: Rows that the growing part leaves to the prompt and the toolbar.
_RESERVED_ROWS = 6


class Screen(View):
    """Shows the chat with rich, and takes what is typed with prompt_toolkit."""

    # The greeting is to be seen as it grows.
    wait = "session"

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False, emoji=False)
        self._state_lock = threading.Lock()
        self._finished: deque[tuple[str, RenderableType]] = deque()
        self._growing = Growing()
        self._status = ConnectionStatus.CONNECTING
        self._lost = False
        self._attempt = ""
        self._name = ""
        # What was printed last: a message of the user, of the agent, or a notice.
        self._last = ""
        self._app: Application[str] | None = None
        self._context: contextvars.Context | None = None
        self._printing = False
        # Whether SIGTERM has come.
        self._leaving = False
        # Whether "Connecting …" stands there.
        self._passing = False

    # Told by the client, on its callback thread

    def event(self, event: Event) -> None:
        with self._state_lock:
            self._growing.event(event)
        if isinstance(event, (PolyAgentMessage, LiveAgentMessage)):
            name = self.conversation.speaker(event)
            self._show("agent", draw_message(event, name))
        elif isinstance(event, UserMessage):
            self._show("user", draw_said("You", USER, event.text))
        else:
            shown = notice(event)
            if shown is not None:
                self._show("notice", draw_notice(shown))
            else:
                self._refresh()

    def connection(self, change: ConnectionChange) -> None:
        shown = connection_notice(change, self._lost)
        self._attempt = ""
        if change.status is ConnectionStatus.RECONNECTING:
            # The toolbar tells of the attempts after the first.
            shown = None if self._lost else shown
            self._attempt = f", attempt {change.attempt} in {change.delay:.0f} s"
            self._lost = True
        elif change.status is ConnectionStatus.OPEN:
            self._lost = False
        self._status = change.status
        if shown is not None:
            self._show("notice", draw_notice(shown))
        else:
            self._refresh()

    def over(self) -> None:
        self._on_loop(self._leave)

    # Told by the chat

    def say(self, text: str) -> None:
        self._show("notice", draw_notice(Notice("session", readable(text))))

    def trouble(self, error: BaseException) -> None:
        self._show(
            "notice", draw_notice(Notice("system", readable(str(error)), "error"))
        )

    def opening(self, name: str) -> None:
        line = Text(
            f"· Connecting to {name} …", "dim", no_wrap=True, overflow="ellipsis"
        )
        self._console.print(line, end="")
        self._passing = True

    def opened(self, name: str) -> None:
        self._name = name
        self._status = self.conversation.client.status
        text = f"Connected to {name}. /help lists the commands, ^D ends the chat."
        # Before all that has come meanwhile: nothing is printed until the prompt is.
        with self._state_lock:
            self._finished.appendleft(("notice", draw_notice(Notice("session", text))))

    def tell_history(self) -> None:
        items = self.conversation.client.transcript
        if not items:
            self.say("Nothing has been said yet.")
            return
        rows: list[RenderableType] = [Text("· The conversation so far:", "dim")]
        rows += [draw_item(item) for item in items]
        rows.append(Text("· That was it.", "dim"))
        self._show("history", Group(*rows))

    def closed(self) -> None:
        with self._state_lock:
            self._growing = Growing()
        self._print_finished()

    def converse(self) -> None:
        session: PromptSession[str] = PromptSession(
            message=self._prompt,
            bottom_toolbar=self._toolbar,
            history=InMemoryHistory(),
            style=_STYLE,
            color_depth=(
                ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else None
            ),
            reserve_space_for_menu=0,
            complete_while_typing=False,
            erase_when_done=True,
            enable_system_prompt=False,
            enable_suspend=True,
        )
        # The prompt stays when a line is entered, so that nothing is ever printed
        # between two prompts, where it would have to find out whether there is one.
        session.default_buffer.accept_handler = self._accept
        session.default_buffer.on_text_changed += self._changed
        self._app = session.app
        try:
            with patch_stdout(raw=True), self._late_termination():
                session.prompt(pre_run=self._begin)
        except EOFError:
            pass
        finally:
            self._context = None
            self._print_finished()

    @contextlib.contextmanager
    def _late_termination(self) -> Iterator[None]:
        """Let SIGTERM close the prompt first, and do what it does after the block.

        Raising in the middle of the prompt's loop, as the handler of the command
        would, can leave the terminal without its settings.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def terminate(number: int, frame: FrameType | None) -> None:
            self._leaving = True
            self._on_loop(self._leave)

        before = signal.signal(signal.SIGTERM, terminate)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
        if self._leaving:
            signal.raise_signal(signal.SIGTERM)

    # On the loop of the prompt

    def _begin(self) -> None:
        self._context = contextvars.copy_context()
        leaving = self.conversation.over or self._leaving
        self._on_loop(self._leave if leaving else self._update)

    def _leave(self) -> None:
        app = self._app
        if app is not None and app.future is not None and not app.future.done():
            app.exit(result="")

    def _changed(self, buffer: Buffer) -> None:
        self.conversation.typing(buffer.text)

    def _accept(self, buffer: Buffer) -> bool:
        """Do what was typed, without waiting; keep nothing of it in the prompt."""
        typed = understand(buffer.text, self.conversation.suggestions)
        if isinstance(typed, Say):
            self._send(typed.text)
        elif isinstance(typed, Misunderstood):
            self.refuse(typed.reason)
        elif isinstance(typed, Order) and self.obey(typed):
            self._leave()
        return False

    def obey(self, order: Order) -> bool:
        if order.name == "help":
            rows = [Text(f"· {line}", "dim") for line in help_lines()]
            self._show("notice", Group(*rows))
            return False
        return super().obey(order)

    def _send(self, text: str) -> None:
        with self._state_lock:
            self._growing.sending.append(text)
        try:
            future = self.conversation.client.submit_message(text)
        except PolysyncError as error:
            self._unsent(text, error)
        else:
            future.add_done_callback(lambda done: self._sent(text, done))
        self._refresh()

    def _sent(self, text: str, future: Future[UserMessage]) -> None:
        error = future.exception()
        if error is not None:
            self._unsent(text, error)

    def _unsent(self, text: str, error: BaseException) -> None:
        with self._state_lock:
            self._growing.forget(text)
        if self.conversation.over and isinstance(
            error, (SessionEndedError, ClientClosedError)
        ):
            return
        self._show("user", draw_said("You", USER, text, Text("(not sent)", "yellow")))
        self.trouble(error)

    # Drawing

    def _show(self, kind: str, what: RenderableType) -> None:
        with self._state_lock:
            self._finished.append((kind, what))
        self._refresh()

    def _refresh(self) -> None:
        self._on_loop(self._update)

    def _on_loop(self, function: Any) -> None:
        context, app = self._context, self._app
        loop = app.loop if app is not None else None
        if context is not None and loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended just now
                loop.call_soon_threadsafe(function, context=context)

    def _update(self) -> None:
        if self._app is None or not self._app.is_running:
            return
        if self._finished and not self._printing:
            self._printing = True
            run_in_terminal(self._print_finished)
        else:
            self._app.invalidate()

    def _print_finished(self) -> None:
        """Print what is finished; on the main thread, with the prompt out of sight."""
        self._printing = False
        if self._passing:
            self._console.control(Control((ControlType.CARRIAGE_RETURN,)))
            self._console.control(Control((ControlType.ERASE_IN_LINE, 2)))
            self._passing = False
        while True:
            with self._state_lock:
                if not self._finished:
                    return
                kind, what = self._finished.popleft()
            if self._gap_before(kind):
                self._console.print()
            self._console.print(what)
            self._last = kind

    def _gap_before(self, kind: str) -> bool:
        return (
            self._last != ""
            and self._last != "user"
            and not self._last == kind == "notice"
        )

    def _prompt(self) -> AnyFormattedText:
        with self._state_lock:
            reply, typing, sending = (
                self._growing.reply,
                self._growing.typing,
                tuple(self._growing.sending),
            )
        rows: list[RenderableType] = []
        live = self.conversation.client.live_agent is not None
        style = HUMAN if live else AGENT
        if reply:
            rows.append(draw_said(self.conversation.speaker(), style, reply))
        elif typing:
            name = self.conversation.speaker()
            rows.append(Text.assemble((name, f"{style} dim"), (" is typing …", "dim")))
        rows += [draw_said("You", USER, f"{text} …", dim=True) for text in sending]
        console = Console(
            file=io.StringIO(),
            force_terminal=True,
            width=self._console.width,
            color_system=self._console.color_system,  # type: ignore[arg-type]
            no_color=self._console.no_color,
            highlight=False,
            emoji=False,
        )
        with console.capture() as capture:
            for row in rows:
                console.print(row)
        lines = capture.get().splitlines()
        lines = lines[-max(1, self._console.height - _RESERVED_ROWS) :]
        if lines and self._last != "user":
            lines.insert(0, "")
        return [
            *_fragments("\n".join([*lines, "", ""])),
            ("bold ansigreen", "You › "),
        ]

    def _toolbar(self) -> AnyFormattedText:
        style, mark, state = _STATES.get(self._status, _NO_STATE)
        who = self.conversation.speaker()
        if self.conversation.client.live_agent is not None:
            who += " (human)"
        elif self.conversation.queued:
            who = "waiting for a human"
        return [
            (style, f"{mark} "),
            ("", f"{state}{self._attempt} · {self._name} · {who}"),
        ]


def _fragments(text: str) -> list[tuple[str, str]]:
    return [
        (fragment[0], fragment[1]) for fragment in ANSI(text).__pt_formatted_text__()
    ]
