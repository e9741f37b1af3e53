"""`ChatWidget`: a conversation in a notebook that never blocks the kernel.

Handlers of buttons only put work in line. One thread of the widget's own does it and
paints: it alone sets what the browser shows, so nothing has to be locked, and news that
come faster than they can be painted are painted together.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]

from polysync.client import Client
from polysync.errors import ConfigurationError, PolysyncError
from polysync.integrations.jupyter import cells
from polysync.integrations.jupyter.displays import STYLE, lines
from polysync.integrations.jupyter.notices import heading, notice
from polysync.models import ConnectionStatus, TranscriptItem
from polysync.runtime import threads
from polysync.runtime.clock import monotonic
from polysync.runtime.timers import Timer

__all__ = ["ChatWidget"]

logger = logging.getLogger(__name__)

#: Suggestions that are shown at most.
_SUGGESTIONS = 8

#: Seconds in which the browser says what the text was when Enter was pressed, if it had
#: not said so before.
_ENTER_PATIENCE = 0.3

#: Seconds for ending the conversation when the widget is closed.
_END_TIMEOUT = 2.0

_OVER = (ConnectionStatus.CLOSED, ConnectionStatus.FAILED)


class ChatWidget(widgets.VBox):  # type: ignore[misc]
    """A chat with the agent, to be displayed in a notebook.

    ::

        ChatWidget(Client())

    The conversation begins when the widget is displayed at the end of a cell; inside
    of another layout, with the button *Start* or by `start`. A client that is connected
    already is taken as it is, and what it says and hears elsewhere is shown too: it
    remains usable from other cells.

    When a cell is run again, the chats that it made before are closed, and with them
    the conversations that they have begun. So is an earlier chat of the same ``name``.

    Args:
        client: The client to talk through; it is left open when the widget is closed.
            Without one, the widget makes and owns one.
        name: A chat of this name takes the place of the one before it, in whichever
            cell that was.
        **options: Settings of the widget's own client, as for `polysync.Client`.

    Raises:
        ConfigurationError: A setting is wrong, or there are a client and options.
    """

    _closed = True  # until it is set up

    def __init__(
        self, client: Client | None = None, *, name: str | None = None, **options: Any
    ) -> None:
        if client is not None and options:
            raise ConfigurationError(
                "ChatWidget takes a client or the options of one, not both: "
                f"{', '.join(sorted(options))}"
            )
        self._owned = client is None
        self._client = Client(**options) if client is None else client
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()
        self._dirty = threading.Event()
        self._error: str | None = None
        self._suggested: tuple[str, ...] = ()
        self._submitted = False
        self._enter = Timer(self._enter_alone)
        self._build()
        self._closed = False
        for register in (
            self._client.on_event,
            self._client.on_connection_change,
            self._client.on_error,
        ):
            register(self._changed)
        cells.take_place(self, name)
        self._paint()

    def __repr__(self) -> str:
        return f"<ChatWidget of {self._client!r}>"

    def _build(self) -> None:
        self._head = widgets.HTML()
        self._said = widgets.HTML()
        self._coming = widgets.HTML()
        # Upside down, a box stays scrolled to its end while it grows.
        talk = widgets.Box(
            [self._coming, self._said],
            layout=widgets.Layout(
                display="flex",
                flex_flow="column-reverse",
                max_height="28em",
                overflow="auto",
                padding="0 .5em",
            ),
        )
        self._notice = widgets.HTML()
        self._buttons = [
            widgets.Button(layout=widgets.Layout(width="auto", display="none"))
            for _ in range(_SUGGESTIONS)
        ]
        for button in self._buttons:
            button.on_click(self._on_suggestion)
        choices = widgets.Box(
            self._buttons, layout=widgets.Layout(display="flex", flex_flow="row wrap")
        )
        # The browser tells what was typed when the field is left, which clicking a
        # button does, or right after Enter was pressed.
        self._text = widgets.Text(
            placeholder="Say something …",
            continuous_update=False,
            layout=widgets.Layout(flex="1 1 auto", width="auto"),
        )
        self._text.on_msg(self._on_enter)
        self._text.observe(self._on_text, "value")
        self._send_button = widgets.Button(description="Send", button_style="primary")
        self._send_button.on_click(lambda _: self._take_text())
        self._start = widgets.Button(description="Start", icon="play")
        self._start.on_click(lambda _: self.start())
        entry = widgets.HBox(
            [self._text, self._send_button, self._start],
            layout=widgets.Layout(align_items="center"),
        )
        super().__init__(
            [widgets.HTML(STYLE), self._head, talk, self._notice, choices, entry],
            layout=widgets.Layout(
                max_width="48em",
                border="1px solid var(--jp-border-color2, #bbb)",
                padding=".5em",
            ),
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if self._client.status is ConnectionStatus.IDLE:
            self.start()
        return super()._repr_mimebundle_(**kwargs)

    # What can be done, from the main thread or any other

    @property
    def client(self) -> Client:
        """The client that the widget talks through."""
        return self._client

    def start(self) -> ChatWidget:
        """Begin the conversation, or another one after its end; do not wait for it.

        Returns:
            The widget.
        """
        self._put(self._connect)
        return self

    def say(self, text: str) -> None:
        """Send a message as if the user had typed it; do not wait for it."""
        self._put(lambda: self._submit(text))

    def close(self) -> None:
        """Take the widget away; end the conversation if the widget has begun it."""
        if self._closed:
            return
        with self._thread_lock:
            self._closed = True
            if self._thread is not None:
                self._work.put(None)
        cells.leave(self)
        self._enter.cancel()
        with contextlib.suppress(PolysyncError):  # in a forked child
            self._client.off(self._changed)
        idle = self._thread is None
        if self._owned and (idle or self._client.status is ConnectionStatus.CONNECTING):
            self._client.close()  # which ends the wait for it, too
        for widget in _below(self):
            widget.close()
        super().close()

    # What the browser says: on the kernel's main thread, which must not wait

    def _on_suggestion(self, button: Any) -> None:
        place = self._buttons.index(button)
        if place < len(self._suggested):
            self.say(self._suggested[place])

    def _on_enter(self, _: Any, content: Any, buffers: Any) -> None:
        if content.get("event") == "submit":
            # The text follows, unless it is what was known already.
            self._submitted = True
            self._enter.set(monotonic() + _ENTER_PATIENCE)

    def _on_text(self, change: Any) -> None:
        if self._submitted and change["new"]:
            self._take_text()

    def _enter_alone(self) -> None:
        self._put(lambda: self._take_text() if self._submitted else None)

    def _take_text(self) -> None:
        self._submitted = False
        text, self._text.value = self._text.value, ""
        if text.strip():
            self.say(text)

    # What the client says: on its threads

    def _changed(self, news: object = None) -> None:
        if isinstance(news, Exception):
            self._error = str(news)
        if not self._dirty.is_set():
            self._dirty.set()
            self._put(self._paint)

    # What is done: on the widget's own thread

    def _put(self, work: Callable[[], object]) -> None:
        with self._thread_lock:
            if self._closed:
                return
            self._work.put(work)
            if self._thread is None:
                self._thread = threads.spawn("chat-widget", self._run)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except PolysyncError as error:
                self._error = str(error)
                self._paint()
            except Exception:
                logger.exception("the chat widget failed")
        if self._owned:
            with contextlib.suppress(PolysyncError):
                if self._client.session_id is not None and not self._client.ended:
                    self._client.end_session(timeout=_END_TIMEOUT)
            self._client.close()

    def _connect(self) -> None:
        self._error = None
        client = self._client
        self._start.disabled = True
        try:
            # The greeting, like all that comes, is painted when it comes.
            if client.ended or client.status is ConnectionStatus.CLOSED:
                client.restart(wait="session")
            else:
                client.connect(wait="session")
        finally:
            self._start.disabled = False
            self._paint()

    def _submit(self, text: str) -> None:
        self._error = None
        self._client.submit_message(text).add_done_callback(lambda _: self._changed())
        self._paint()

    def _paint(self) -> None:
        self._dirty.clear()
        client = self._client
        items = list(client.transcript)
        coming: list[TranscriptItem] = []
        while items and not items[-1].complete:
            coming.insert(0, items.pop())
        self._head.value = _page(heading(client))
        self._said.value = _page(lines(items, suggestions=False), "log")
        self._coming.value = _page(lines(coming, suggestions=False))
        self._notice.value = _page(notice(client, self._error))
        last = items[-1] if items and not coming else None
        suggestions = [] if last is None else last.response_suggestions
        self._suggest([each.message_text for each in suggestions])
        over = client.ended or client.status in _OVER
        idle = client.status is ConnectionStatus.IDLE
        self._text.disabled = self._send_button.disabled = over or idle
        self._start.description = "Start" if idle else "Start again"
        self._start.layout.display = "" if over or idle else "none"

    def _suggest(self, texts: list[str]) -> None:
        over = self._client.ended or self._client.status in _OVER
        shown = () if over else tuple(filter(str.strip, texts))[:_SUGGESTIONS]
        if shown == self._suggested:
            return
        self._suggested = shown
        for place, button in enumerate(self._buttons):
            button.layout.display = "" if place < len(shown) else "none"
            if place < len(shown):
                button.description = shown[place]


def _page(body: str, role: str = "none") -> str:
    return f'<div class="polysync" role="{role}">{body}</div>' if body else ""


def _below(box: Any) -> list[Any]:
    """Return the widgets inside of a box, at any depth."""
    found = []
    for child in box.children:
        found += [child, *(_below(child) if isinstance(child, widgets.Box) else ())]
    return found
