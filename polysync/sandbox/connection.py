"""One WebSocket of a session: frames in, frames out, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from polysync.sandbox.actions import (
    Action,
    Arrange,
    Close,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Freeze,
    Inject,
    Moment,
    Postpone,
    Rewrite,
    Swallow,
)
from polysync.sandbox.record import Frame
from polysync.sandbox.wire import CLIENT_TYPES, PREFIX, SERVER_TYPES, Event, dumps

if TYPE_CHECKING:
    from polysync.sandbox.context import Context
    from polysync.sandbox.meter import FrameMeter
    from polysync.sandbox.session import Session

__all__ = ["Connection", "abort", "problem"]

logger = logging.getLogger("polysync.sandbox")

MALFORMED = "Unknown event type or invalid message format"
_KNOWN_KEYS = frozenset({"type", "payload", "metadata"})
_TYPING_STATES = frozenset({"TYPING_STATE_STARTED", "TYPING_STATE_STOPPED"})


def abort(transport: asyncio.Transport | None, *, reset: bool) -> None:
    """End a TCP connection now, by a reset or by an orderly end."""
    if transport is None:
        return
    if not reset:
        transport.close()
        return
    # A TLS transport that was closed twice does not know its socket any more.
    with contextlib.suppress(OSError, AttributeError):
        # To linger for no time makes the kernel send RST in place of FIN.
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    # On Python 3.10 a TLS transport that was only aborted does not count as closed.
    transport.close()


def custom_of(event: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Return the ``metadata.custom`` of a client event, if it is one to repeat."""
    metadata = event.get("metadata")
    custom = metadata.get("custom") if isinstance(metadata, dict) else None
    if isinstance(custom, dict) and all(isinstance(v, str) for v in custom.values()):
        return custom
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def parsed(text: str) -> Event | None:
    """Return the object that a text frame holds, if it holds one."""
    try:
        event = _decode(text)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def problem(event: Mapping[str, Any] | None) -> str | None:
    """Return what the server says of a client event that it does not take."""
    if event is None:
        return MALFORMED
    kind, payload = event.get("type"), event.get("payload")
    if not isinstance(kind, str):
        return MALFORMED
    if kind in SERVER_TYPES:
        return f"Event type not allowed: {kind}"
    if kind not in CLIENT_TYPES or not isinstance(payload, dict):
        return MALFORMED
    if not event.keys() <= _KNOWN_KEYS:
        return MALFORMED
    if "metadata" in event and custom_of(event) is None and event["metadata"] != {}:
        return MALFORMED
    if kind == PREFIX + "USER_MESSAGE" and not isinstance(payload.get("text"), str):
        return MALFORMED
    if kind == PREFIX + "USER_TYPING" and payload.get("state") not in _TYPING_STATES:
        return MALFORMED
    return None


class Connection:
    """One connection: a reader that obeys, a writer that keeps the order.

    The writer has a queue of its own, so that a client which does not read holds up
    nobody but itself.
    """

    def __init__(
        self,
        context: Context,
        session: Session,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport | None,
    ) -> None:
        self._context = context
        self._session = session
        self._ws = ws
        self._transport = transport
        self._outbox: deque[tuple[Event, str] | Action] = deque()
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._frozen = False
        self._closing = False
        self._held: list[tuple[int, str]] = []
        self._allowance = context.settings.message_rate or 0.0
        self._filled_at = time.monotonic()
        self.meter: FrameMeter | None = None
        self.number = session.count_connection()

    # Out.

    def send(self, event: Event, text: str | None = None) -> None:
        """Queue an event; `text` is its encoding, if it is at hand."""
        self._outbox.append((event, dumps(event) if text is None else text))
        self._wake.set()

    def act(self, action: Action, *, in_turn: bool = False) -> None:
        """Do something to the connection.

        To drop or to freeze it is done at once, unless it is to wait its turn; all
        else always does, as it goes out between the frames.
        """
        if isinstance(action, Drop) and not in_turn:
            self._drop(action)
        elif isinstance(action, Freeze) and not in_turn:
            self._freeze()
        else:
            self._outbox.append(action)
            self._wake.set()

    def replay(
        self, events: list[Event], batches: Sequence[list[Event] | Action]
    ) -> Sequence[list[Event] | Action]:
        """Return the batches to send, after the faults have had their say."""
        for action in self._faults(Moment.REPLAY, None, None):
            if isinstance(action, Arrange):
                batches = action.function(events)
            else:
                self.act(action, in_turn=True)
        return batches

    async def write(self) -> None:
        """Send what is queued until the connection is over."""
        try:
            while not self._over.is_set():
                if not self._outbox:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                item = self._outbox.popleft()
                if self._frozen:
                    await self._over.wait()
                elif isinstance(item, tuple):
                    await self._transmit(*item)
                else:
                    await self._perform(item)
        except (ConnectionError, RuntimeError):
            # The peer is gone, or aiohttp noticed so first; the reader sees to it.
            self._over.set()
        except Exception:
            # A function that a test gave to a fault has failed.
            logger.exception("the sandbox cannot write in %s", self._session.id)
            self._drop(Drop())

    async def _transmit(self, event: Event, text: str) -> None:
        kind, copies = event["type"], 1
        for action in self._faults(Moment.SEND, kind, event):
            if isinstance(action, Rewrite):
                made = action.function(json.loads(text))
                if isinstance(made, bytes):
                    await self._ws.send_bytes(made)
                    copies = 0
                else:
                    text = made if isinstance(made, str) else dumps(made)
            elif isinstance(action, Duplicate):
                copies += action.copies
            elif isinstance(action, Swallow):
                copies = 0
            elif isinstance(action, Postpone):
                copies = 0
                # One more, because this very turn counts one down.
                self._held.append((action.by + 1, text))
            elif isinstance(action, Cut):
                self._cut(text)
            else:
                await self._perform(action)
            if self._over.is_set() or self._frozen or self._closing:
                return
        # Asked for before, as a fault that is armed once the client has the event, or
        # what it was the last of, is meant for a later one.
        afterwards = self._faults(Moment.SENT, kind, event)
        for _ in range(copies):
            await self._ws.send_str(text)
        for action in afterwards:
            await self._perform(action)
        if self._held:
            await self._release()

    async def _release(self) -> None:
        """Send what has been overtaken often enough."""
        held = [(left - 1, text) for left, text in self._held]
        self._held = [entry for entry in held if entry[0] > 0]
        for left, text in held:
            if left <= 0:
                await self._ws.send_str(text)

    async def _perform(self, action: Action) -> None:
        if isinstance(action, Delay):
            await asyncio.sleep(action.seconds)
        elif isinstance(action, Drop):
            self._drop(action)
        elif isinstance(action, Freeze):
            self._freeze()
        elif isinstance(action, Close):
            self._closing = True
            await self._ws.close(code=action.code, message=action.reason.encode())
            self._over.set()
        elif isinstance(action, Inject):
            await self._inject(action)

    async def _inject(self, action: Inject) -> None:
        if action.raw and self._transport is not None:
            data = action.data
            self._transport.write(data.encode() if isinstance(data, str) else data)
        elif isinstance(action.data, str):
            await self._ws.send_str(action.data)
        else:
            await self._ws.send_bytes(action.data)

    def _cut(self, text: str) -> None:
        payload = text.encode()
        # A full header promises what never comes: FIN, text, length in 8 bytes.
        head = b"\x81\x7f" + struct.pack("!Q", len(payload))
        if self._transport is not None:
            self._transport.write(head + payload[: len(payload) // 2])
        self._drop(Drop(reset=True))

    def _drop(self, action: Drop) -> None:
        self._over.set()
        self._wake.set()
        self._session.detach(self)
        abort(self._transport, reset=action.reset)

    def _freeze(self) -> None:
        self._frozen = True
        if self._transport is not None:
            self._transport.pause_reading()

    def _faults(
        self, moment: Moment, kind: str | None, event: Mapping[str, Any] | None
    ) -> tuple[Action, ...]:
        return self._context.faults.at(
            moment,
            kind,
            session=self._session.id,
            connection=self.number,
            event=event,
        )

    # In.

    async def read(self) -> None:
        """Take what the client sends until the connection is over."""
        lifetime = self._context.settings.connection_lifetime
        if lifetime is not None:
            timer = self._context.running_loop().call_later(
                lifetime, lambda: self.act(Close(1001, "going away"), in_turn=True)
            )
        try:
            while not self._over.is_set():
                message = await self._ws.receive()
                if self._frozen:
                    await self._over.wait()
                elif message.type is WSMsgType.TEXT or message.type is WSMsgType.BINARY:
                    await self._take(message.data)
                else:
                    return
        finally:
            if lifetime is not None:
                timer.cancel()

    async def _take(self, data: str | bytes) -> None:
        event: Event | None = None
        if isinstance(data, str):
            event = parsed(data)
        fragments = self.meter.fragments if self.meter is not None else None
        count = fragments.popleft() if fragments else 1
        self._context.received.add_frame(
            Frame(self._session.id, self.number, data, event, count, time.monotonic())
        )
        self._session.touch()
        if not self._within_rate():
            return
        refusal = problem(event)
        kind = event.get("type") if event is not None else None
        kind = kind if isinstance(kind, str) else None
        for action in self._faults(Moment.RECEIVE, kind, event):
            if isinstance(action, Swallow):
                return
            if isinstance(action, Delay):
                await asyncio.sleep(action.seconds)
            else:
                self.act(action)
            if not isinstance(action, (Delay, Inject)):
                return
        if refusal is not None or event is None:
            custom = custom_of(event) if event is not None else None
            self._session.refuse(refusal or MALFORMED, custom)
        else:
            await self._session.receive(self, event, custom_of(event))

    def _within_rate(self) -> bool:
        """Say whether a message still counts; those over the limit vanish silently."""
        rate = self._context.settings.message_rate
        if rate is None:
            return True
        now = time.monotonic()
        # A bucket that holds what one second allows.
        self._allowance = min(rate, self._allowance + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    async def serve(self) -> None:
        """Run the connection from the accepted handshake to its end."""
        writer = asyncio.ensure_future(self.write())
        try:
            await self.read()
        finally:
            self._session.detach(self)
            if not self._closing:
                # A closing handshake is left to end by itself, within its timeout.
                self._over.set()
                writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
