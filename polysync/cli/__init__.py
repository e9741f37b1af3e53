"""The ``polysync`` command.

Each of its commands is a module beside this one, listed in `COMMANDS`. It has

* ``SUMMARY``, its line in ``polysync --help``;
* ``EXAMPLES``, shown below its options;
* ``configure(parser)``, which adds its options;
* ``run(arguments)``, which does the work and returns the exit code: 0, or 1 for
  failure. It raises `polysync.cli.reporting.CommandError` to end with a sentence;
  errors of polysync become one by themselves, a `polysync.ConfigurationError` with
  code 2.

Commands import the extras that they need in ``run``, not before.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from polysync.cli import chat, doctor, run, sandbox
from polysync.cli.reporting import (
    FAILURE,
    INTERRUPTED,
    USAGE,
    CommandError,
    debug_log,
    hush_stdout,
    lenient_streams,
    report,
    report_traceback,
)
from polysync.errors import ConfigurationError, PolysyncError

__all__ = ["COMMANDS", "main"]

#: The commands, in the order in which the help lists them.
COMMANDS: dict[str, Any] = {
    "chat": chat,
    "sandbox": sandbox,
    "run": run,
    "doctor": doctor,
}

_EXAMPLES = """\
examples:
  polysync chat             talk to your agent; without credentials, to the sandbox
  polysync sandbox          run the sandbox for other programs
  polysync COMMAND --help   all options of a command

environment:
  POLYSYNC_CONNECTOR_TOKEN, POLYSYNC_HOST, POLYSYNC_ENVIRONMENT, NO_COLOR

exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted by ^C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Args:
        argv: The arguments; default: those of the process.

    Raises:
        SystemExit: After ``--help`` and ``--version``, and for wrong arguments.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    with lenient_streams(), debug_log(arguments.debug), _terminable():
        try:
            code: int = COMMANDS[arguments.command].run(arguments)
            sys.stdout.flush()
            return code
        except _Terminated:
            return 128 + signal.SIGTERM
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:
            hush_stdout()
            return FAILURE
        except Exception as error:
            return _failed(error, arguments.debug)


def _failed(error: Exception, debug: bool) -> int:
    if debug:
        report_traceback()
    if isinstance(error, CommandError):
        report(error)
        return error.code
    if isinstance(error, (PolysyncError, OSError)):
        report(error)
        return USAGE if isinstance(error, ConfigurationError) else FAILURE
    more = "" if debug else "; --debug shows where"
    report(f"an unforeseen {type(error).__name__}: {error}{more}")
    return FAILURE


class _Version(argparse.Action):
    """Shows the version; it takes the package, which the rest here does without."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import polysync

        print(f"polysync {polysync.__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="polysync",
        description="Talk to PolyAI agents over the Messaging API.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the version and exit"
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands"
    )
    for name, command in COMMANDS.items():
        child = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=f"{command.SUMMARY[0].upper()}{command.SUMMARY[1:]}.",
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.configure(child)
        child.add_argument(
            "--debug",
            action="store_true",
            help="log everything to standard error, and show tracebacks",
        )
    return parser


class _Terminated(KeyboardInterrupt):
    """SIGTERM has come; it ends everything as ^C does."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block as ^C does: the terminal and the session are tidied."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
