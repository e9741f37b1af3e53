"""A conversation's start: the thread that asks for a session, and how far it is."""

from __future__ import annotations

import contextvars
import logging
import random
import weakref
from typing import Protocol

from polysync.errors import ConnectTimeoutError, PolysyncError
from polysync.options import Options
from polysync.protocol.conversation import Conversation
from polysync.protocol.states import Phase
from polysync.runtime import rest, threads
from polysync.runtime.cancel import Cancel
from polysync.runtime.clock import Deadline
from polysync.runtime.network import Network
from polysync.runtime.resources import Resources

__all__ = ["Starter", "out_of_time", "start"]

logger = logging.getLogger(__name__)


class Starter(Protocol):
    """Who is told how it went; held weakly, so that it may be forgotten meanwhile."""

    def session_created(
        self, conversation: Conversation, access_token: str, session_id: str
    ) -> None:
        """The server has made a session."""

    def start_failed(self, conversation: Conversation, error: Exception) -> None:
        """There is no session."""


def start(
    starter: Starter,
    resources: Resources,
    network: Network | None,
    options: Options,
    access_token: str | None,
    cancel: Cancel,
    deadline: Deadline,
    conversation: Conversation,
) -> None:
    """Ask for a session on a thread of its own."""
    try:
        resources.starter = threads.spawn(
            "session",
            # Whoever traces the requests finds the call that they are made for.
            contextvars.copy_context().run,
            _create_session,
            weakref.ref(starter),
            network,
            options,
            access_token,
            cancel,
            deadline,
            conversation,
        )
    except PolysyncError as error:  # there are too many threads
        starter.start_failed(conversation, error)


def _create_session(
    starter: weakref.ref[Starter],
    network: Network,
    options: Options,
    access_token: str | None,
    cancel: Cancel,
    deadline: Deadline,
    conversation: Conversation,
) -> None:
    """Get an access token and a session; the thread of a start."""
    session_id, error = "", None
    try:
        if access_token is None:
            access_token = rest.access_token(
                network,
                options.connector_token or "",
                options.host or "",
                deadline=deadline,
                cancel=cancel,
                random=random.random,
            ).token
        session_id = rest.create_session(
            network,
            access_token,
            streaming=options.streaming,
            platform=options.platform,
            deadline=deadline,
            cancel=cancel,
            random=random.random,
        )
    except PolysyncError as failure:
        error = failure
    except Exception as failure:
        logger.exception("creating a session failed in an unforeseen way")
        error = PolysyncError(f"creating a session failed: {type(failure).__name__}")
    owner = starter()
    if owner is None:
        return
    if error is not None:
        owner.start_failed(conversation, error)
    elif access_token is not None:
        owner.session_created(conversation, access_token, session_id)


def out_of_time(conversation: Conversation, timeout: float) -> ConnectTimeoutError:
    """Return the error of a start that took too long, with the step it has reached."""
    step = {
        Phase.STARTING: "the server has not created a session yet",
        Phase.CONNECTING: "the WebSocket is not open yet",
        Phase.REPLAYING: "the server has not sent the history yet",
        Phase.LOST: "the connection failed and is tried again "
        f"({conversation.lifeline.last_loss})",
    }.get(
        conversation.phase,
        "the agent has sent no greeting yet; wait='agent' or wait='session' "
        "does not wait for it"
        if conversation.situation.joined
        else "the agent has not joined yet; wait='session' does not wait for it",
    )
    return ConnectTimeoutError(
        f"connect() did not finish within {timeout:g} s: {step}", timeout=timeout
    )
