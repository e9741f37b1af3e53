"""``polysync chat``: a conversation in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shlex
import stat
import sys
from pathlib import Path
from typing import Any

from polysync.cli.connection import (
    add_connection_options,
    built_in_sandbox,
    target_of,
    timeouts,
)
from polysync.cli.conversation import Conversation
from polysync.cli.jsonlines import JsonView
from polysync.cli.plain import PlainView
from polysync.cli.recording import Recording
from polysync.cli.reporting import FAILURE, USAGE, CommandError, report
from polysync.cli.view import View
from polysync.client import Client
from polysync.errors import ConfigurationError, PolysyncError, SessionEndedError
from polysync.sessions.state import SessionState

__all__ = ["EXAMPLES", "SUMMARY", "configure", "run"]

SUMMARY = "talk to an agent in the terminal"
EXAMPLES = """\
examples:
  polysync chat                          with $POLYSYNC_CONNECTOR_TOKEN, or the sandbox
  polysync chat --environment uk-1       in another cluster; asks for the token
  polysync chat --record talk.json       keep the events, for the sandbox to play again
  polysync chat < questions.txt          send each line, wait for each reply
  echo Hello | polysync chat --json | jq -r .type

in the chat:
  /help lists the commands; a number picks a suggestion; ^C and ^D end it
"""

#: Pauses, in seconds, that make the built-in sandbox talk as an agent would.
_PACE = {"reply_delay": 0.6, "chunk_delay": 0.04}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_connection_options(parser)
    parser.add_argument(
        "--no-streaming",
        action="store_true",
        help="have each reply come in one piece",
    )
    style = parser.add_mutually_exclusive_group()
    style.add_argument(
        "--json", action="store_true", help="write one event a line, as JSON"
    )
    style.add_argument(
        "--plain",
        action="store_true",
        help="write plain lines, as when the output is no terminal",
    )
    parser.add_argument(
        "--record",
        metavar="FILE",
        help="write the server's events to a file that the sandbox can play",
    )
    parser.add_argument(
        "--resume",
        metavar="FILE",
        help="go on with the conversation that /detach FILE left",
    )


def run(arguments: argparse.Namespace) -> int:
    """Hold a conversation; return the exit code."""
    view = _view(arguments)
    recording = Recording(arguments.record) if arguments.record else None
    with contextlib.ExitStack() as stack:
        if arguments.resume:
            client, name, sandboxed = *_resumed(arguments), False
        else:
            target = target_of(arguments)
            options = target.options
            if target.sandboxed:
                pace = {} if isinstance(view, (JsonView, PlainView)) else _PACE
                options = options | stack.enter_context(built_in_sandbox(**pace))
            client = Client(**options, streaming=not arguments.no_streaming)
            name, sandboxed = target.name, target.sandboxed
        conversation = Conversation(
            client, view, recording=recording, sandboxed=sandboxed
        )
        view.conversation = conversation
        try:
            return _hold(conversation, view, name, arguments)
        finally:
            client.close()


def _hold(
    conversation: Conversation, view: View, name: str, arguments: argparse.Namespace
) -> int:
    try:
        try:
            view.opening(name)
            _connect(conversation.client, view)
            view.opened(name)
            if arguments.resume:
                view.tell_history()
            view.converse()
        except BaseException:
            # Never an error of the ending over the one, or the ^C, that led here.
            with contextlib.suppress(PolysyncError):
                conversation.end()
            raise
        else:
            conversation.end()
        finally:
            view.closed()
    finally:
        saved = conversation.save()
        if saved:
            report(f"{saved} events are in {arguments.record}")
        if conversation.detached:
            report(
                "the conversation stays open for ten minutes; to go on with it: "
                f"polysync chat --resume {shlex.quote(conversation.detached)}"
            )
    if conversation.error is not None:
        raise conversation.error
    return FAILURE if conversation.flawed else 0


def _connect(client: Client, view: View) -> None:
    try:
        client.connect(wait=view.wait)
    except SessionEndedError as error:
        raise CommandError(
            "the conversation has ended, and cannot be gone on with: begin a new one"
        ) from error


def _view(arguments: argparse.Namespace) -> View:
    if arguments.json:
        return JsonView()
    plain = (
        arguments.plain
        or not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty())
        or os.environ.get("TERM") == "dumb"
    )
    if plain:
        return PlainView()
    missing = [
        module
        for module in ("prompt_toolkit", "rich")
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        report(
            f"{' and '.join(missing)} missing, so these are plain lines; for all of "
            "the chat: pip install 'polysync[cli]'"
        )
        return PlainView()
    from polysync.cli.screen import Screen

    return Screen()


def _resumed(arguments: argparse.Namespace) -> tuple[Client, str]:
    if arguments.environment or arguments.no_streaming:
        raise CommandError(
            "--resume goes on where and how the conversation began: leave out "
            "--environment and --no-streaming",
            USAGE,
        )
    path = Path(arguments.resume)
    try:
        text = path.read_bytes()
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            report(f"{path} holds a token, and others can read it: chmod 600 {path}")
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}", USAGE) from error
    try:
        state = SessionState.from_json(text)
    except ConfigurationError as error:
        raise CommandError(f"{path}: {error}", USAGE) from error
    options: dict[str, Any] = timeouts(arguments)
    return Client.resume(state, replay=True, **options), state.base_url
