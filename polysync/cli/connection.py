"""Where a command connects to, and with what: shared options, credentials."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from polysync.cli.reporting import USAGE, CommandError, report

__all__ = ["Target", "add_connection_options", "built_in_sandbox", "target_of"]

TOKEN, HOST, ENVIRONMENT = (
    "POLYSYNC_CONNECTOR_TOKEN",
    "POLYSYNC_HOST",
    "POLYSYNC_ENVIRONMENT",
)


@attrs.frozen
class Target:
    """Where to connect to.

    Attributes:
        name: What to call it to a person.
        sandboxed: Whether it is the built-in sandbox, which ends with the program.
        options: Keywords for `polysync.Client`, the credentials among them.
    """

    name: str
    sandboxed: bool
    options: dict[str, Any] = attrs.field(repr=False)


def seconds(text: str) -> float:
    """Read the number of seconds in an argument."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def add_connection_options(
    parser: argparse.ArgumentParser,
    timeout: str = "how long to wait for the server, and for a reply "
    "(default: 30 and 60)",
) -> None:
    """Add the options that say where to connect to and how long to wait.

    Args:
        parser: The command's parser.
        timeout: What the command makes of ``--timeout``.
    """
    group = parser.add_argument_group(
        "connection",
        f"Credentials come from ${TOKEN} and\n"
        f"${HOST}, or are asked for. They are never arguments, which\n"
        "other users of the machine can see.",
    )
    group.add_argument(
        "--environment",
        metavar="NAME",
        help="us-1, uk-1, euw-1, another cluster, a base URL or 'sandbox' "
        f"(default: ${ENVIRONMENT}, else us-1, and without a token the sandbox)",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help=timeout,
    )


def target_of(
    arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ
) -> Target:
    """Find out where to connect to; say so where it may surprise, ask for what lacks.

    Raises:
        CommandError: Credentials are missing, and there is nobody to ask.
    """
    chosen = arguments.environment or environ.get(ENVIRONMENT)
    token, host = environ.get(TOKEN), environ.get(HOST)
    if not chosen and not token:
        report(f"no credentials (${TOKEN} is not set), so this is the built-in sandbox")
        chosen = "sandbox"
    options = timeouts(arguments)
    if chosen == "sandbox":
        return Target("the sandbox", True, {**options, "environment": "sandbox"})
    if not token:
        token = _ask(f"Connector token for {chosen}: ", TOKEN, hidden=True)
    if not host:
        host = _ask("Host (such as https://www.example.com): ", HOST, hidden=False)
    options.update(connector_token=token, host=host, environment=chosen or "us-1")
    return Target(chosen or "us-1", False, options)


def timeouts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the client's options that ``--timeout`` sets."""
    if arguments.timeout is None:
        return {}
    return {"timeout": arguments.timeout, "reply_timeout": arguments.timeout}


def _ask(question: str, variable: str, *, hidden: bool) -> str:
    if not sys.stdin.isatty():
        raise CommandError(
            f"${variable} is not set, and there is no terminal to ask for it", USAGE
        )
    try:
        if hidden:
            answer = getpass.getpass(question)
        else:
            print(question, end="", file=sys.stderr, flush=True)
            answer = sys.stdin.readline()
    except EOFError:
        answer = ""
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise
    if not answer.strip():
        raise CommandError(f"nothing was entered; you can also set ${variable}", USAGE)
    return answer.strip()


@contextlib.contextmanager
def built_in_sandbox(**settings: Any) -> Iterator[dict[str, Any]]:
    """Run a sandbox for the length of a block; give the client's options for it.

    Raises:
        CommandError: aiohttp is missing.
    """
    try:
        from polysync.sandbox import Sandbox
    except ImportError as error:
        raise CommandError(str(error)) from error
    with Sandbox(**settings) as sandbox:
        yield {
            "environment": sandbox.base_url,
            "connector_token": sandbox.connector_token,
            "host": sandbox.host,
        }
