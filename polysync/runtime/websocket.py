"""One WebSocket connection: its thread, what comes in, what goes out.

The reader thread dials, upgrades, reads and closes; no other thread does any of
these. Sending happens in whichever thread has something to send. A connection
decides nothing: it tells its listener what happened, and is used up by one use.
"""

from __future__ import annotations

import logging
import os
import queue
import struct
import sys
import threading
import weakref
from contextlib import suppress
from typing import Any, Protocol

import websocket

from polysync.errors import PolysyncError
from polysync.protocol.loss import Loss
from polysync.runtime import frames, threads
from polysync.runtime.cancel import Cancel
from polysync.runtime.clock import Deadline, monotonic
from polysync.runtime.network import Network, user_agent
from polysync.runtime.redact import describe, redact
from polysync.runtime.rest import parse_retry_after
from polysync.runtime.socket import LockedSocket
from polysync.runtime.timers import Timer
from polysync.runtime.upgrade import Upgrade

__all__ = ["Connection", "Listener"]

logger = logging.getLogger(__name__)

#: Session, access token and cursor; ``None`` to end.
_Parameters = tuple[str, str, "int | None"] | None

#: How long the reader may look for last words after a write has failed, in seconds.
_LAST_WORDS = 1.0


class Listener(Protocol):
    """What a connection tells, always on its reader thread."""

    def connection_opened(self, connection: Connection) -> None:
        """The upgrade has succeeded; messages follow."""

    def connection_received(self, connection: Connection, payload: bytes) -> None:
        """A whole message, text or binary, not decoded."""

    def connection_lost(self, connection: Connection, loss: Loss) -> None:
        """The end; comes once, whatever happened, and nothing follows."""


class Connection:
    """One connection to ``/ws``.

    Args:
        network: The way to the server.
        generation: A number of the listener's choosing, to tell connections apart.
        listener: Whom to tell. It is held weakly, and when it is gone the connection
            ends by itself.
        open_timeout: Seconds for dialling, and again for the upgrade.
        send_timeout: Seconds after which a peer that takes no data counts as dead.
    """

    def __init__(
        self,
        network: Network,
        *,
        generation: int,
        listener: Listener,
        open_timeout: float,
        send_timeout: float,
    ) -> None:
        self.generation = generation
        #: Whole frames and their bytes, headers not counted on the way in.
        self.frames_in = 0
        self.bytes_in = 0
        self.frames_out = 0
        self.bytes_out = 0
        self._network = network
        self._open_timeout = open_timeout
        self._send_timeout = send_timeout
        self._listener = weakref.ref(listener, self._orphaned)
        self._cancel = Cancel()
        # What upgrade() or abort() put here, until the reader has taken it. A
        # SimpleQueue, as abort() may come from the collector anywhere in any thread.
        self._parameters: queue.SimpleQueue[_Parameters] | None = queue.SimpleQueue()
        # What waits to be sent, and what of it is next, the first last: taking the
        # first out of a long list is slow, and an empty deque takes 760 bytes.
        self._outgoing: list[str] = []
        self._next: list[str] = []
        #: Guards the order of frames on the wire. Reentrant for the same reason.
        self._write_lock = threading.RLock()
        self._socket: LockedSocket | None = None
        self._thread: threading.Thread | None = None
        self._writer: threading.Thread | None = None
        self._opened = False
        self._ended = False
        self._closing = False
        self._failure: str | None = None
        self._pid = os.getpid()
        #: Made when it is needed, which is at the end.
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open" if self._opened else "connecting"
        return f"<Connection {self.generation} {state}>"

    # Life

    def start(self) -> None:
        """Start the reader thread, which dials at once.

        Raises:
            ClientClosedError: No thread can be started.
        """
        self._thread = threads.spawn("reader", self._run)

    def upgrade(self, session_id: str, access_token: str, cursor: int | None) -> None:
        """Give what the upgrade needs; it follows as soon as there is a connection.

        Args:
            session_id: Which session to join.
            access_token: The token that the session was created with.
            cursor: The highest sequence seen; ``None`` for the whole history.
        """
        parameters = self._parameters
        if parameters is not None:
            parameters.put((session_id, access_token, cursor))

    @property
    def alive(self) -> bool:
        """Whether the listener can still hear of this connection."""
        return not self._ended

    @property
    def opened(self) -> bool:
        """Whether the upgrade has ever succeeded."""
        return self._opened

    @property
    def threads(self) -> list[threading.Thread]:
        """The threads of this connection that may be running."""
        return [each for each in (self._thread, self._writer) if each is not None]

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the threads of the connection have ended.

        Args:
            timeout: Seconds.

        Returns:
            Whether they have; the calling thread is not waited for.
        """
        return threads.join(self.threads, timeout)

    def abort(self) -> None:
        """End the connection at once and without a goodbye. From any thread."""
        if self._forked:
            self.forget()
            return
        parameters = self._parameters
        if parameters is not None:
            parameters.put(None)
        self._cancel.cancel()
        sock = self._socket
        if sock is not None:
            sock.abort()

    def close(
        self,
        code: int = 1000,
        reason: str = "",
        timeout: float = 1.0,
        *,
        wait: bool = True,
    ) -> bool:
        """Say goodbye, give the peer some time to answer, and end.

        Args:
            code: Close code.
            reason: A few words for the peer; cut off at 123 bytes.
            timeout: Seconds for the peer's answer; with 0 the connection ends as soon
                as the goodbye is handed to the system.
            wait: Whether to wait for the end. On the reader thread, which cannot wait
                for itself, nothing ever does.

        Returns:
            Whether all threads of the connection have ended.
        """
        if self._forked:
            self.forget()
            return True
        self._goodbye(code, reason)
        if self._opened and timeout > 0:
            self._abort_in(timeout)
        else:
            self.abort()
        if not wait:
            return self._ended
        # The abort after the timeout wakes the reader at once.
        return self.join(timeout + 1.0)

    def forget(self) -> None:
        """Close the descriptor and nothing else, in the child after a fork."""
        sock, self._socket = self._socket, None
        self._ended = True
        if sock is not None:
            sock.forget()

    @property
    def _forked(self) -> bool:
        # Whether the connection is the parent's: what is done to the socket here, for
        # instance as the listener's copy is collected, would be done to the parent.
        return os.getpid() != self._pid

    # Sending: any thread

    def queue(self, text: str) -> None:
        """Put a message in line. Only that, so it may be called under a lock."""
        self._outgoing.append(text)

    def flush(self, wait: bool = False) -> None:
        """Send what is in line, in order.

        A failure is not raised: it ends the connection, and the listener is told.

        Args:
            wait: Whether to wait until the system has taken all of it, for as long as
                ``send_timeout``. Otherwise, what it does not take at once is sent by
                a thread that comes up for it.
        """
        sock = self._socket
        if sock is None or not self._opened:
            return  # the reader flushes when it has opened
        try:
            with self._write_lock:
                self._send_outgoing(sock)
            if sock.unsent:  # hardly ever
                if wait:
                    sock.drain(Deadline(self._send_timeout))
                else:
                    self._send_later()
        except TimeoutError:
            self._fail(
                f"the server did not take what was sent for {self._send_timeout:g} s"
            )
        except OSError as error:
            self._fail(f"sending failed: {describe(error)}", _LAST_WORDS)
        except BaseException:
            # Interrupted. What is half sent has to be sent to its end.
            if sock.unsent:
                self._send_later()
            raise

    def _send_outgoing(self, sock: LockedSocket) -> None:
        outgoing, following = self._outgoing, self._next
        if self._closing:
            outgoing.clear()
            following.clear()
            return
        while following or outgoing:
            try:
                if not following:
                    # More may come in line meanwhile, in other threads.
                    taken = outgoing[:]
                    del outgoing[: len(taken)]
                    following.extend(reversed(taken))
                self._send_text(sock, following.pop())
            except OSError:
                raise
            except BaseException:
                # Nobody could say whether the message in hand is sent.
                self._fail("interrupted while sending")
                raise

    def _send_text(self, sock: LockedSocket, text: str) -> None:
        wire, count = frames.text_frames(text)
        sock.send(wire)
        self.frames_out += count
        self.bytes_out += len(wire)

    def _send_control(self, sock: LockedSocket, opcode: int, payload: bytes) -> None:
        wire = frames.control_frame(opcode, payload)
        sock.send(wire)
        self.frames_out += 1
        self.bytes_out += len(wire)

    def _send_later(self) -> None:
        with self._write_lock:
            if self._writer is None and not self._ended:
                self._writer = threads.spawn("writer", self._send_rest)

    def _send_rest(self) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            while True:
                sock.drain(Deadline(self._send_timeout))
                with self._write_lock:
                    if not sock.unsent:
                        self._writer = None
                        return
        except TimeoutError:
            self._fail(
                f"the server did not take what was sent for {self._send_timeout:g} s"
            )
        except OSError as error:
            self._fail(f"sending failed: {describe(error)}", _LAST_WORDS)

    def _goodbye(self, code: int, reason: str) -> None:
        """Send the close frame after what is in line, once."""
        sock = self._socket
        try:
            with self._write_lock:
                if self._closing or sock is None or not self._opened:
                    self._closing = True
                    return
                self._send_outgoing(sock)
                self._closing = True
                payload = frames.close_payload(code, reason)
                self._send_control(sock, frames.CLOSE, payload)
            if sock.unsent:
                self._send_later()
        except (OSError, PolysyncError):
            self.abort()

    def _fail(self, reason: str, grace: float = 0.0) -> None:
        """End the connection for a reason of ours that the listener is to be told."""
        if self._failure is None:
            self._failure = reason
        if grace:
            # The peer may have said why before it left; the reader will find it.
            self._abort_in(grace)
        else:
            self.abort()

    def _abort_in(self, delay: float) -> None:
        with self._write_lock:
            timer = self._timer = self._timer or Timer(self.abort)
        try:
            timer.set(monotonic() + delay)
        except PolysyncError:  # no thread can be started any more
            self.abort()
        if self._ended:
            timer.cancel()

    # Reading: the reader thread

    def _run(self) -> None:
        try:
            loss = self._live()
        except PolysyncError as error:
            loss = self._lost(str(error), retryable=error.retryable, close_code=None)
        except Exception as error:
            logger.exception("The connection ended by an unexpected error")
            loss = self._lost(f"unexpected error: {type(error).__name__}")
        sock = self._socket
        if sock is not None:
            sock.close()
        self._ended = True
        timer = self._timer
        if timer is not None:
            timer.cancel()
        listener = self._listener()
        if listener is not None:
            try:
                listener.connection_lost(self, loss)
            except Exception:
                logger.exception("The listener failed at the end of a connection")

    def _live(self) -> Loss:
        sock = LockedSocket(
            self._network.dial(Deadline(self._open_timeout), self._cancel)
        )
        self._socket = sock
        if self._cancel.cancelled:
            # abort() came in between and could not know of the socket.
            sock.abort()
        waiting = self._parameters
        parameters = None if waiting is None else waiting.get()
        self._parameters = waiting = None
        if parameters is None:
            return self._lost("closed before it was opened")
        ws = websocket.WebSocket(
            enable_multithread=False,
            skip_utf8_validation=True,
        )
        refusal = self._upgrade(ws, sock, *parameters)
        if refusal is not None:
            return refusal
        self._opened = True
        self._tell_opened()
        self.flush()
        return self._read(ws, sock)

    def _upgrade(
        self,
        ws: Any,
        sock: LockedSocket,
        session_id: str,
        access_token: str,
        cursor: int | None,
    ) -> Loss | None:
        query = {"session_id": session_id, "access_token": access_token}
        if cursor is not None:
            query["cursor"] = str(cursor)
        upgrade = Upgrade(sock)
        sock.settimeout(self._open_timeout)
        try:
            ws.connect(
                self._network.websocket_url("/ws", query),
                socket=upgrade,
                header={"User-Agent": user_agent()},
                suppress_origin=True,
                redirect_limit=0,
            )
        except (websocket.WebSocketException, OSError, ValueError) as error:
            if self._cancel.cancelled:
                return self._lost("closed while it was opening")
            late = isinstance(error, TimeoutError | websocket.WebSocketTimeoutException)
            return self._lost(
                upgrade.explain(error, late, {access_token, *self._network.secrets}),
                # A 101 is not what ended it.
                status=None if upgrade.status == 101 else upgrade.status,
                retry_after=parse_retry_after(upgrade.retry_after),
            )
        sock.settimeout(None)
        # 1 KiB of headers, and 0.5 KiB of what `recv_frame` does not use.
        ws.handshake_response = ws.sock_opt = ws.cont_frame = None
        ws.sock = sock
        ws.frame_buffer = _Frames(ws._recv, skip_utf8_validation=True)
        return None

    def _read(self, ws: Any, sock: LockedSocket) -> Loss:
        """Hand on what comes until the end, and say how it ended."""
        incoming = frames.Incoming(sock, ws.recv_frame)
        try:
            while True:
                opcode, data = incoming.next()
                if opcode == frames.TEXT:
                    if not self._deliver(data):
                        return self._lost("nobody listens any more")
                    data = b""  # an idle connection is not to keep what came last
                elif opcode == frames.PING:
                    self._answer_ping(sock, data)
                elif opcode == frames.CLOSE:
                    return self._closed(data)
        except frames.ViolationError as error:
            self._goodbye(error.code, str(error))
            reason = f"the server broke the WebSocket protocol: {error}"
            return self._lost(reason, close_code=error.code)
        except (
            websocket.WebSocketProtocolException,
            websocket.WebSocketPayloadException,
        ) as error:
            self._goodbye(1002, "protocol error")
            reason = f"the server broke the WebSocket protocol: {error}"
            return self._lost(reason, close_code=1002)
        except websocket.WebSocketException:
            return self._lost("the connection was cut off", close_code=1006)
        except OSError as error:
            reason = f"the connection broke: {describe(error)}"
            return self._lost(reason, close_code=1006)

    def _answer_ping(self, sock: LockedSocket, payload: bytes) -> None:
        if self._closing:
            return
        # If it fails, reading will tell what is the matter.
        with suppress(OSError):
            self._send_control(sock, frames.PONG, payload)
        if sock.unsent:
            self._send_later()

    def _closed(self, data: bytes) -> Loss:
        code = struct.unpack("!H", data[:2])[0] if len(data) >= 2 else 1005
        reason = data[2:].decode("utf-8", "replace")
        # The answer repeats the code; if we closed first, this is the answer.
        self._goodbye(1000 if code == 1005 else code, "")
        said = f": {redact(reason)}" if reason else ""
        return Loss(
            close_code=code,
            reason=f"the server closed the connection ({code}){said}",
            opened=True,
        )

    def _lost(
        self,
        reason: str,
        *,
        status: int | None = None,
        close_code: int | None = None,
        retry_after: float | None = None,
        retryable: bool = True,
    ) -> Loss:
        if self._opened and close_code is None:
            close_code = 1006
        return Loss(
            status=status,
            close_code=close_code,
            reason=redact(self._failure or reason),
            retry_after=retry_after,
            opened=self._opened,
            retryable=retryable,
        )

    # The listener is never in a local variable of a frame that blocks: it could not
    # be collected for as long as nothing comes in.

    def _tell_opened(self) -> None:
        listener = self._listener()
        if listener is None:
            self.abort()
            return
        try:
            listener.connection_opened(self)
        except Exception:
            logger.exception("The listener failed at the opening of a connection")

    def _deliver(self, payload: bytes) -> bool:
        self.frames_in += 1
        self.bytes_in += len(payload)
        listener = self._listener()
        if listener is None:
            return False
        try:
            listener.connection_received(self, payload)
        except Exception:
            logger.exception("The listener failed at a message")
        return True

    def _orphaned(self, _: object) -> None:
        # When the interpreter ends, the reader may be gone with a lock in its hand.
        if not sys.is_finalizing():
            self.abort()


class _Frames(websocket.frame_buffer):
    """websocket-client's frame parser, with a limit before it reads on."""

    def recv_length(self) -> None:
        super().recv_length()
        frames.check_length(self.length or 0)
