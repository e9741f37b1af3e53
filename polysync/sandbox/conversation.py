"""The agent's side of a session: it joins, thinks, speaks and hands over."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from polysync.sandbox.actions import Delay, Fail, Moment, Swallow
from polysync.sandbox.agents import Actor
from polysync.sandbox.answers import Handoff, Leave, Push, Reply, Turn
from polysync.sandbox.wire import PREFIX, Event, chunks, full_type

if TYPE_CHECKING:
    from polysync.sandbox.context import Context
    from polysync.sandbox.session import Session

__all__ = ["Conversation"]

logger = logging.getLogger("polysync.sandbox")

_END = object()
AGENT_FAILED = "Sorry, I encountered an error. Please try again."


class ConversationOver(RuntimeError):
    """There is nothing left to say, because the session has ended meanwhile."""


class Conversation:
    """Takes one turn after the other, however long the agent is at it."""

    def __init__(self, session: Session, context: Context) -> None:
        self._session = session
        self._context = context
        self._actor = Actor.of(context.agent)
        self._jobs: deque[Callable[[], Any]] = deque()
        self._working = False
        self._turns = 0
        self._live: Callable[[Turn], Any] | None = None
        self.handing_over = False

    # Called by the session.

    def greet(self, custom: Mapping[str, str] | None) -> None:
        """Let the agent join and say hello."""
        self._submit(lambda: self._join(custom or {}))

    def answer(self, echo: Event) -> None:
        """Let whoever is there answer the user's message."""
        self._turns += 1
        payload = echo["payload"]
        turn = Turn(
            self._session,
            payload["text"],
            self._turns,
            echo.get("metadata", {}).get("custom", {}),
            payload["message_id"],
            self._session.state,
        )
        self._submit(lambda: self._reply(turn))

    def say(self, text: str) -> Event:
        """Send a whole message at once; return its event."""
        return self._whole(Reply(text))

    def _submit(self, job: Callable[[], Any]) -> None:
        self._jobs.append(job)
        if not self._working:
            self._working = True
            self._context.spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._jobs and not self._session.ended:
                with contextlib.suppress(ConversationOver):
                    await self._jobs.popleft()()
                # An agent that never waits must leave the others their turn too.
                await asyncio.sleep(0)
        finally:
            self._working = False

    # The turns.

    async def _join(self, custom: Mapping[str, str]) -> None:
        session = self._session
        if session.attended:
            return
        for action in self._context.faults.at(Moment.JOIN, session=session.id):
            if isinstance(action, Delay):
                await asyncio.sleep(action.seconds)
            elif isinstance(action, Fail):
                session.refuse(action.message, custom)
                return
        self._live = None
        if not self._actor.scripted:
            self._emit(
                "POLY_AGENT_JOINED",
                {
                    "agent_name": self._actor.name,
                    "agent_avatar_url": self._actor.avatar_url,
                },
            )
            self._emit("POLY_AGENT_THINKING")
        else:
            session.take_in_agent()
        turn = Turn(session, "", 0, custom, None, session.state)
        await self._speak(self._actor.greeting, turn)

    async def _reply(self, turn: Turn) -> None:
        session = self._session
        live = session.live_agent is not None
        if not live and not self._actor.scripted:
            self._emit("POLY_AGENT_THINKING")
        for action in self._context.faults.at(Moment.REPLY, session=session.id):
            if isinstance(action, Delay):
                await asyncio.sleep(action.seconds)
            elif isinstance(action, Fail):
                session.refuse(action.message, turn.metadata)
                return
            elif isinstance(action, Swallow):
                return
        if live:
            self._typing("TYPING_STATE_STARTED")
            await self._speak(self._live or self._actor.live_reply, turn)
        else:
            await self._speak(self._actor.reply, turn)

    async def _speak(self, call: Callable[[Turn], Any], turn: Turn) -> None:
        """Carry out what the agent answers, piece by piece."""
        settings, session = self._context.settings, self._session
        if settings.reply_delay:
            await asyncio.sleep(settings.reply_delay)
        message: _Message | None = None
        answers = self._answers(call, turn)
        try:
            async for item in answers:
                if session.ended:
                    return
                if isinstance(item, str):
                    message = message or _Message(self)
                    await message.add(item)
                elif isinstance(item, Reply) and message and not item.text:
                    message.finish(item)
                    message = None
                else:
                    if message:
                        message.finish(Reply())
                        message = None
                    await self._carry_out(item)
            if message and not session.ended:
                message.finish(Reply())
        except ConversationOver:
            raise
        except Exception:
            logger.exception("the agent failed in session %s", session.id)
            if not session.ended:
                session.refuse(AGENT_FAILED, turn.metadata)
        finally:
            await answers.aclose()

    async def _answers(
        self, call: Callable[[Turn], Any], turn: Turn
    ) -> Any:  # an async generator
        """Yield the agent's answers, whichever way it gives them."""
        run = self._context.workers.run
        blocking = self._actor.blocking and not (
            inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)
        )
        result = await run(call, turn) if blocking else call(turn)
        if inspect.isawaitable(result):
            result = await result
        if result is None:
            return
        if isinstance(result, str):
            yield Reply(result)
        elif isinstance(result, (Reply, Handoff, Leave, Push)):
            yield result
        elif isinstance(result, AsyncIterator):
            async for item in result:
                yield item
        else:
            items = iter(result)
            while True:
                item = await run(next, items, _END) if blocking else next(items, _END)
                if item is _END:
                    return
                yield item

    async def _carry_out(self, item: object) -> None:
        if isinstance(item, Reply):
            await self._say(item)
        elif isinstance(item, Handoff):
            await self._hand_over(item)
        elif isinstance(item, Leave):
            self._leave(item.reason)
        elif isinstance(item, Push):
            self._session.emit(full_type(item.type), item.payload, item.transient)
        elif item is not None:
            raise TypeError(
                "an agent answers with str, Reply, Handoff, Leave or Push, "
                f"not {item!r}"
            )

    # Messages.

    async def _say(self, reply: Reply) -> None:
        if not self._in_chunks(reply):
            self._whole(reply)
            return
        message = _Message(self)
        pieces = chunks(reply.text)
        for piece in pieces[:-1]:
            await message.add(piece)
        message.finish(reply, pieces[-1])

    def _in_chunks(self, reply: Reply) -> bool:
        # Chunks have no room for telephone numbers, and humans do not stream.
        session = self._session
        human = session.live_agent is not None
        return session.streaming and not human and not reply.call_actions

    def _whole(self, reply: Reply, message_id: str | None = None) -> Event:
        live = self._session.live_agent
        payload: dict[str, Any] = {
            "message_id": message_id or str(uuid4()),
            "text": reply.text,
            "attachments": list(reply.attachments),
            "response_suggestions": _suggestions(reply),
        }
        if reply.call_actions:
            payload["chat_call_actions"] = list(reply.call_actions)
        if live is not None:
            self._typing("TYPING_STATE_STOPPED")
            payload["agent_id"] = live.get("id")
            payload["agent_name"] = live.get("name")
            payload["avatar_url"] = live.get("avatar_url")
            event = self._emit("LIVE_AGENT_MESSAGE", payload)
        else:
            payload["agent_name"] = self._actor.name
            payload["avatar_url"] = self._actor.avatar_url
            payload["end_conversation"] = reply.end
            event = self._emit("POLY_AGENT_MESSAGE", payload)
        self._end_after(reply)
        return event

    def _end_after(self, reply: Reply) -> None:
        if reply.end:
            if self._session.live_agent is not None:
                self._leave("")
            self._emit("SESSION_END", {"reason": "REASON_NATURAL_END"})

    # Humans.

    async def _hand_over(self, handoff: Handoff) -> None:
        reason = {"reason": handoff.reason} if handoff.reason else {}
        if handoff.outcome == "client":
            self._emit(
                "CLIENT_HANDOFF_REQUIRED",
                {
                    "reason": handoff.reason or "AGENT_DECISION",
                    "queue_name": handoff.queue_name,
                },
            )
            return
        if handoff.outcome == "failed":
            self._emit("POLY_AGENT_TRIGGERED_HANDOFF")
            self._emit("HANDOFF_FAILED", reason)
            return
        self.handing_over = True
        try:
            await self._wait_for_human(handoff, reason)
        finally:
            self.handing_over = False

    async def _wait_for_human(
        self, handoff: Handoff, reason: Mapping[str, str]
    ) -> None:
        timed_out = handoff.outcome == "timeout"
        if not timed_out:
            self._emit("POLY_AGENT_LEFT", {"reason": handoff.reason or "handoff"})
        self._emit("POLY_AGENT_TRIGGERED_HANDOFF")
        self._emit("HANDOFF_ACCEPTED", {"queue_name": handoff.queue_name})
        for position in handoff.queue:
            await self._pause()
            self._emit(
                "HANDOFF_QUEUE_STATUS",
                {
                    "queue_name": handoff.queue_name,
                    "position_in_queue": position,
                    "estimated_wait_seconds": 30 * position,
                    "display_message": f"You are number {position} in the queue.",
                },
            )
        await self._pause()
        if timed_out:
            self._emit("HANDOFF_TIMEOUT", reason)
            return
        self._live = handoff.reply
        human = {
            "id": handoff.agent_id,
            "name": handoff.agent_name,
            "avatar_url": handoff.avatar_url,
        }
        self._emit("LIVE_AGENT_JOINED", {"agent": human})
        if handoff.greeting:
            self._typing("TYPING_STATE_STARTED")
            await self._pause()
            await self._say(Reply(handoff.greeting))

    def _leave(self, reason: str) -> None:
        payload: dict[str, Any] = {"reason": reason} if reason else {}
        human = self._session.live_agent
        if human is None:
            self._emit("POLY_AGENT_LEFT", payload)
        else:
            payload["agent_id"] = human.get("id")
            payload["agent_name"] = human.get("name")
            self._emit("LIVE_AGENT_LEFT", payload)

    def _typing(self, state: str) -> None:
        human = self._session.live_agent or {}
        self._emit(
            "LIVE_AGENT_TYPING",
            {
                "state": state,
                "agent_id": human.get("id"),
                "agent_name": human.get("name"),
            },
        )

    async def _pause(self) -> None:
        if self._context.settings.reply_delay:
            await asyncio.sleep(self._context.settings.reply_delay)

    def _emit(self, name: str, payload: Mapping[str, Any] | None = None) -> Event:
        if self._session.ended:
            raise ConversationOver("the conversation has ended")
        return self._session.emit(PREFIX + name, payload)


class _Message:
    """A message that the agent makes piece by piece."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._streamed = conversation._in_chunks(Reply())
        self._id = str(uuid4())
        self._index = 0
        self._parts: list[str] = []

    async def add(self, text: str) -> None:
        """Send a piece, or keep it until the message is whole."""
        if not self._streamed:
            self._parts.append(text)
            return
        delay = self._conversation._context.settings.chunk_delay
        if delay and self._index:
            await asyncio.sleep(delay)
        self._chunk(text, Reply(), False)

    def finish(self, reply: Reply, text: str = "") -> None:
        """Send what is left, with all that goes with the message."""
        conversation = self._conversation
        if self._streamed:
            self._chunk(text, reply, True)
            conversation._end_after(reply)
            return
        whole = Reply(
            "".join(self._parts) + text,
            suggestions=reply.suggestions,
            attachments=reply.attachments,
            call_actions=reply.call_actions,
            end=reply.end,
        )
        conversation._whole(whole, self._id)

    def _chunk(self, text: str, reply: Reply, complete: bool) -> None:
        self._index += 1
        self._conversation._emit(
            "POLY_AGENT_MESSAGE_CHUNK",
            {
                "message_id": self._id,
                "text": text,
                "attachments": list(reply.attachments),
                "response_suggestions": _suggestions(reply),
                "chunk_index": self._index,
                "is_complete": complete,
            },
        )


def _suggestions(reply: Reply) -> Sequence[Mapping[str, Any]]:
    return [
        {"message_text": offer} if isinstance(offer, str) else offer
        for offer in reply.suggestions
    ]
