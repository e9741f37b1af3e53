"""``polysync doctor``: what works on the way to the agent, and what does not."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import platform
import ssl
import sys
import textwrap
from importlib import metadata
from typing import Any

from polysync.cli.checkup import Finding, Status, examine
from polysync.cli.connection import (
    Target,
    add_connection_options,
    built_in_sandbox,
    target_of,
)
from polysync.cli.reporting import FAILURE
from polysync.client import Client
from polysync.options import Options
from polysync.runtime.redact import redact

__all__ = ["EXAMPLES", "SUMMARY", "configure", "run"]

SUMMARY = "check each step to the agent, and say what to do about what fails"
EXAMPLES = """\
examples:
  polysync doctor                        with $POLYSYNC_CONNECTOR_TOKEN, $POLYSYNC_HOST
  polysync doctor --environment uk-1
  polysync doctor --json | jq '.checks[] | select(.status == "failed")'

It holds a short conversation of its own, and its output has no secret in it. Proxies
are taken from the environment (https_proxy, no_proxy), as the client does.
"""

#: Seconds for each step, unless --timeout says otherwise.
_TIMEOUT = 10.0
_WIDTH = 88
_PACKAGES = ("polysync", "websocket-client", "urllib3", "attrs", "cattrs")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_connection_options(
        parser, f"how long each step may take (default: {_TIMEOUT:g})"
    )
    parser.add_argument(
        "--ca-certs",
        metavar="FILE",
        help="trust these certificates instead of the system's, as Client(ca_certs=)",
    )
    parser.add_argument(
        "--json", action="store_true", help="write one JSON object, for programs"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check everything; return the exit code."""
    target = target_of(arguments)
    timeout = arguments.timeout or _TIMEOUT
    with contextlib.ExitStack() as stack:
        options = dict(target.options)
        if target.sandboxed:
            options |= stack.enter_context(built_in_sandbox())
        if arguments.ca_certs is not None:
            options["ca_certs"] = arguments.ca_certs
        show = _nothing if arguments.json else _show
        if not arguments.json:
            _show_head(target)
        findings = examine(lambda: _checked(options), timeout, show)
    failed = [each.step for each in findings if each.status is Status.FAILED]
    if arguments.json:
        _write_json(target, findings)
    elif failed:
        print(f"\n{', '.join(failed)}: failed. See above for what to do.")
    else:
        print("\nEverything works.")
    return FAILURE if failed else 0


def _checked(options: dict[str, Any]) -> Options:
    """Return the settings as a client makes them of its options."""
    settings = {
        name: parameter.default
        for name, parameter in inspect.signature(Client).parameters.items()
    }
    return Options.checked(**(settings | options))


def _nothing(finding: Finding) -> None:
    pass


def _show_head(target: Target) -> None:
    facts = ", ".join(f"{name} {value}" for name, value in _versions().items())
    for line in textwrap.wrap(redact(f"{target.name}; {facts}"), _WIDTH):
        print(line)
    print(flush=True)


def _show(finding: Finding) -> None:
    mark = {Status.OK: "ok", Status.FAILED: "FAILED", Status.SKIPPED: "-"}
    took = (
        "" if finding.status is Status.SKIPPED else f"{finding.seconds * 1000:.0f} ms"
    )
    head = f"{mark[finding.status]:<7} {finding.step:<10} {took:>8}  "
    margin = " " * len(head)
    text = textwrap.fill(
        finding.detail, _WIDTH, initial_indent=head, subsequent_indent=margin
    )
    if finding.advice:
        text += "\n" + textwrap.fill(
            finding.advice,
            _WIDTH,
            initial_indent=f"{margin}> ",
            subsequent_indent=f"{margin}  ",
        )
    print(text, flush=True)


def _write_json(target: Target, findings: list[Finding]) -> None:
    content = {
        "ok": all(each.status is Status.OK for each in findings),
        "environment": redact(target.name),
        "versions": _versions(),
        "checks": [each.to_json() for each in findings],
    }
    json.dump(content, sys.stdout, indent=2, ensure_ascii=False)
    print()


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    found["TLS"] = ssl.OPENSSL_VERSION
    found["system"] = f"{platform.system()} {platform.machine()}"
    return found
