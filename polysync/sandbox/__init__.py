"""A local server that speaks the Messaging API, to develop and test against.

::

    with Sandbox() as sandbox:
        with Client(
            environment=sandbox.base_url,
            connector_token=sandbox.connector_token,
            host=sandbox.host,
        ) as client:
            print(client.ask("A table for two, please").text)

It needs aiohttp, which ``pip install 'polysync[sandbox]'`` brings along.
"""

from __future__ import annotations

try:
    # Not used here: only to say better than Python does that it is missing.
    import aiohttp as _aiohttp  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "polysync.sandbox needs aiohttp; install it with: "
        "pip install 'polysync[sandbox]'"
    ) from error

from polysync.sandbox.actions import (
    Action,
    Arrange,
    Close,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Fail,
    Freeze,
    Inject,
    Moment,
    Postpone,
    Refuse,
    Rewrite,
    Swallow,
)
from polysync.sandbox.agents import Agent, Answer, EchoAgent, SilentAgent
from polysync.sandbox.answers import Handoff, Leave, Push, Reply, Turn
from polysync.sandbox.booking import BookingAgent
from polysync.sandbox.embedded import embedded
from polysync.sandbox.faults import Fault, Faults
from polysync.sandbox.record import Frame, Received, Request
from polysync.sandbox.recorded import RecordedAgent
from polysync.sandbox.server import Sandbox
from polysync.sandbox.session import Session, UserMessage
from polysync.sandbox.settings import Settings

__all__ = [
    # actions
    "Action",
    "Arrange",
    "Close",
    "Cut",
    "Delay",
    "Drop",
    "Duplicate",
    "Fail",
    "Freeze",
    "Inject",
    "Moment",
    "Postpone",
    "Refuse",
    "Rewrite",
    "Swallow",
    # agents and answers
    "Agent",
    "Answer",
    "BookingAgent",
    "EchoAgent",
    "Handoff",
    "Leave",
    "Push",
    "RecordedAgent",
    "Reply",
    "SilentAgent",
    "Turn",
    # faults
    "Fault",
    "Faults",
    # what was received
    "Frame",
    "Received",
    "Request",
    # the server
    "Sandbox",
    "Session",
    "Settings",
    "UserMessage",
    "embedded",
]
