"""Plays one script: connects, performs, ends, and says what came of it."""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from polysync.client import Client
from polysync.errors import PolysyncError
from polysync.runtime.clock import monotonic
from polysync.runtime.redact import redact
from polysync.scenarios.outcome import Failure, Line, Outcome
from polysync.scenarios.script import Script
from polysync.scenarios.talk import Talk, Unmet

__all__ = ["play"]

#: How long the end of a conversation may take, in seconds.
_END_TIMEOUT = 5.0


def play(
    script: Script,
    options: Mapping[str, Any] | None = None,
    number: int = 1,
    *,
    begun: Callable[[Talk], object] | None = None,
) -> Outcome:
    """Hold one scripted conversation.

    Never raises for what goes wrong in it: the outcome says so.

    Args:
        script: What is to happen.
        options: Keywords for `polysync.Client`.
        number: Which repetition it is; scripts see it as ``${number}``.
        begun: Called with the talk before it connects.
    """
    settings = {"streaming": script.streaming, **(options or {})}
    started, clock = time.time(), monotonic()
    facts: dict[str, Any] = {}
    talk: Talk | None = None
    failure: Failure | None = None
    try:
        client = Client(**settings)
        talk = Talk(
            client,
            within=script.within,
            variables={"number": str(number), **script.variables},
            wall=time.time,
        )
        talk.listen()
        if begun is not None:
            begun(talk)
        talk.step = "connect"
        client.connect(wait="greeting" if script.greeting else "agent")
        facts["connect"] = monotonic() - clock
        script.perform(talk)
        _end(client)
    except Exception as error:
        failure = _failure(error, talk, script, settings)
    if talk is not None:
        facts |= _facts(talk)
    return Outcome(
        script=script.name,
        path=script.path,
        number=number,
        failure=failure,
        started=started,
        seconds=monotonic() - clock,
        place=f"{platform.node()}:{os.getpid()}",
        **facts,
    )


def _end(client: Client) -> None:
    """End the session; the script is over, so it does not matter if that fails."""
    if not client.ended:
        with suppress(PolysyncError):
            client.end_session(timeout=_END_TIMEOUT)


def _facts(talk: Talk) -> dict[str, Any]:
    """Close, and return what is known of the conversation."""
    client = talk.client
    try:
        spoken = tuple(Line(item.role, item.text) for item in client.transcript)
    finally:
        client.close()
    return {
        "turns": tuple(talk.turns),
        "transcript": spoken,
        "session_id": client.session_id,
    }


def _failure(
    error: Exception, talk: Talk | None, script: Script, settings: Mapping[str, Any]
) -> Failure:
    line = talk.line if talk is not None else 0
    if isinstance(error, Unmet):
        kind, message = "failed", str(error)
    elif isinstance(error, PolysyncError):
        kind, message = "error", str(error)
    elif isinstance(error, AssertionError):
        kind, message = "failed", str(error) or "an assertion does not hold"
    elif isinstance(error, KeyError) and not _in_script(error.__traceback__, script):
        kind, message = "error", f"there is no variable {error}"
    else:
        words = "".join(traceback.format_exception_only(type(error), error)).strip()
        kind, message = "error", words
    if talk is not None and not line:
        line = _in_script(error.__traceback__, script)
    secrets = [settings.get(name) for name in ("connector_token", "access_token")]
    return Failure(
        kind=kind,
        message=redact(message, *secrets),
        step=talk.step if talk is not None else "settings",
        line=line,
    )


def _in_script(trace: TracebackType | None, script: Script) -> int:
    """Return the line of the script that was at work; 0 if none was."""
    lines = [
        frame.lineno or 0
        for frame in traceback.extract_tb(trace)
        if script.path and frame.filename == script.path
    ]
    return lines[-1] if lines else 0
