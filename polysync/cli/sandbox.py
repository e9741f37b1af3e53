"""``polysync sandbox``: the local server alone, for other programs to talk to."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import threading
from typing import Any

from polysync.cli.connection import seconds
from polysync.cli.reporting import USAGE, CommandError, report

__all__ = ["EXAMPLES", "SUMMARY", "configure", "run"]

SUMMARY = "run the local server that stands in for the real one"
EXAMPLES = """\
examples:
  polysync sandbox                       an agent that takes bookings; ^C stops it
  polysync sandbox --port 8807 --agent echo
  polysync sandbox --agent myproject.agents:Concierge
  polysync sandbox --play talk.json      what `polysync chat --record` has kept
  polysync sandbox --reply-delay 1 --chunk-delay 0.05
"""

_AGENTS = {"booking": "BookingAgent", "echo": "EchoAgent", "silent": "SilentAgent"}


def port(text: str) -> int:
    """Read a port in an argument."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def pause(text: str) -> float:
    """Read the length of a pause in an argument: seconds, 0 for none."""
    return 0.0 if text == "0" else seconds(text)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--port", type=port, default=0, help="port to listen on (default: any free one)"
    )
    talker = parser.add_mutually_exclusive_group()
    talker.add_argument(
        "--agent",
        default="booking",
        metavar="AGENT",
        help="who answers: booking (default), echo, silent, or your own as MODULE:NAME",
    )
    talker.add_argument(
        "--play", metavar="FILE", help="play a recorded conversation instead"
    )
    parser.add_argument(
        "--reply-delay",
        type=pause,
        default=0.0,
        metavar="SECONDS",
        help="pause before each reply",
    )
    parser.add_argument(
        "--chunk-delay",
        type=pause,
        default=0.0,
        metavar="SECONDS",
        help="pause between the chunks of a reply",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until ^C."""
    try:
        from polysync.sandbox import Sandbox
    except ImportError as error:
        raise CommandError(str(error)) from error
    try:
        sandbox = Sandbox(
            _agent(arguments),
            port=arguments.port,
            reply_delay=arguments.reply_delay,
            chunk_delay=arguments.chunk_delay,
        )
    except TypeError as error:
        raise CommandError(str(error), USAGE) from error
    try:
        sandbox.start()
    except OSError as error:
        raise CommandError(
            f"port {arguments.port} cannot be listened on: {error.strerror}"
        ) from error
    try:
        print("\n".join(sandbox.describe()), flush=True)
        report(
            "the sandbox runs; give other programs the three lines above. ^C stops it"
        )
        threading.Event().wait()
    finally:
        sandbox.stop()
    return 0


def _agent(arguments: argparse.Namespace) -> Any:
    import polysync.sandbox

    if arguments.play:
        try:
            return polysync.sandbox.RecordedAgent(arguments.play)
        except OSError as error:
            problem = f"{arguments.play} cannot be read: {error.strerror}"
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            problem = f"{arguments.play} is no recording: {error}"
        raise CommandError(problem, USAGE)
    if arguments.agent in _AGENTS:
        return getattr(polysync.sandbox, _AGENTS[arguments.agent])
    module, colon, name = arguments.agent.partition(":")
    if not (module and colon and name):
        raise CommandError(
            f"there is no agent {arguments.agent!r}: use {', '.join(_AGENTS)}, or "
            "MODULE:NAME for your own",
            USAGE,
        )
    # As `python -m` does: what lies in the current directory can be imported.
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CommandError(f"{arguments.agent}: {error}", USAGE) from error
    finally:
        sys.path.remove(os.getcwd())
