"""What of a conversation goes into a `SessionState`, and out of it again."""

from __future__ import annotations

from polysync.models import Agent, Capabilities
from polysync.protocol.conversation import Conversation
from polysync.runtime.engine import Engine
from polysync.sessions.state import SessionState

__all__ = ["save", "take_up"]


def save(engine: Engine) -> SessionState | None:
    """Return the state of a conversation; ``None`` before there is a session."""
    conversation = engine.conversation
    session_id = conversation.lifeline.session_id
    if session_id is None or engine.access_token is None or engine.base_url is None:
        return None
    situation = conversation.situation
    asked = situation.capabilities or Capabilities()
    agent, live = situation.agent or Agent(), situation.live_agent
    return SessionState(
        session_id=session_id,
        access_token=engine.access_token,
        base_url=engine.base_url,
        cursor=conversation.cursor,
        joined=situation.joined,
        streaming=engine.options.streaming,
        agent_name=agent.name,
        agent_avatar_url=agent.avatar_url,
        live_agent=None if live is None else (live.id, live.name, live.avatar_url),
        language=situation.language,
        context_id=situation.context_id,
        heartbeat_interval=asked.heartbeat_interval_seconds,
        max_message_size=asked.max_message_size_bytes,
        max_reconnects=asked.max_reconnect_attempts,
    )


def take_up(conversation: Conversation, state: SessionState, replay: bool) -> None:
    """Put a saved state into a conversation that has not begun."""
    asked = Capabilities(
        streaming=state.streaming,
        heartbeat_interval_seconds=state.heartbeat_interval,
        max_message_size_bytes=state.max_message_size,
        max_reconnect_attempts=state.max_reconnects,
    )
    known = state.agent_name is not None or state.agent_avatar_url is not None
    conversation.resume(
        state.session_id,
        cursor=state.cursor,
        agent=Agent(name=state.agent_name, avatar_url=state.agent_avatar_url)
        if known
        else None,
        joined=state.joined,
        asked=asked,
        replay=replay,
    )
    situation = conversation.situation
    situation.capabilities = asked
    situation.language, situation.context_id = state.language, state.context_id
    if state.live_agent is not None:
        situation.live_agent = Agent(*state.live_agent)
