"""All checks, in the order in which each rests on those before it."""

from __future__ import annotations

import random
from collections.abc import Callable

from polysync.cli.checkup.finding import Finding, Status, Trouble
from polysync.cli.checkup.line import Line
from polysync.cli.checkup.talk import Talk
from polysync.errors import ConfigurationError, PolysyncError, RateLimitError
from polysync.options import Options
from polysync.runtime import rest
from polysync.runtime.cancel import Cancel
from polysync.runtime.clock import Deadline, monotonic
from polysync.runtime.network import Network
from polysync.runtime.proxy import find_proxy
from polysync.runtime.redact import redact

__all__ = ["STEPS", "examine"]

#: The steps, in their order, and the step without which each makes no sense.
STEPS = {
    "settings": None,
    "DNS": "settings",
    "TCP": "DNS",
    "proxy": "TCP",
    "TLS": "proxy",
    "token": "TLS",
    "session": "token",
    "WebSocket": "session",
    "history": "WebSocket",
    "join": "WebSocket",
    "greeting": "join",
    "heartbeat": "WebSocket",
}


def examine(
    settings: Callable[[], Options],
    timeout: float,
    tell: Callable[[Finding], object],
) -> list[Finding]:
    """Check everything, and end the session that this takes.

    Args:
        settings: Makes the settings of the client to examine.
        timeout: Seconds for each step.
        tell: Called with each finding as it is made.
    """
    rounds = _Rounds(settings, timeout)
    findings: dict[str, Finding] = {}
    try:
        for step, before in STEPS.items():
            if before is not None and findings[before].status is not Status.OK:
                finding = Finding(
                    step=step,
                    status=Status.SKIPPED,
                    detail=f"makes no sense before {before} works",
                )
            else:
                finding = rounds.check(step)
            findings[step] = finding
            tell(finding)
    finally:
        rounds.end()
    return list(findings.values())


class _Rounds:
    """What the checks hand on to one another."""

    _network: Network
    _line: Line | None = None
    _talk: Talk | None = None
    _options: Options
    _token = ""
    _session = ""

    def __init__(self, settings: Callable[[], Options], timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        self._secrets: set[str] = set()
        self._work: dict[str, Callable[[], str]] = {
            "settings": self._check_settings,
            "DNS": lambda: self._on_line.resolve(),
            "TCP": lambda: self._on_line.connect(),
            "proxy": lambda: self._on_line.tunnel(),
            "TLS": lambda: self._on_line.secure(),
            "token": self._get_token,
            "session": self._make_session,
            "WebSocket": self._open,
            "history": lambda: self._in_talk.read_history(),
            "join": lambda: self._in_talk.join(),
            "greeting": lambda: self._in_talk.greet(),
            "heartbeat": lambda: self._in_talk.heartbeat(),
        }

    def check(self, step: str) -> Finding:
        work = self._work[step]
        started = monotonic()
        advice = ""
        try:
            status, detail = Status.OK, work()
        except Trouble as trouble:
            status, detail = Status.FAILED, trouble.detail
            advice = trouble.advice
        except PolysyncError as error:
            status, detail = Status.FAILED, str(error)
            advice = _advice(error)
        return Finding(
            step=step,
            status=status,
            seconds=monotonic() - started,
            detail=redact(detail, *self._secrets),
            advice=redact(advice, *self._secrets),
        )

    def end(self) -> None:
        if self._talk is not None:
            self._talk.leave()
        if self._line is not None:
            self._line.close()

    # The steps that hand something on; each returns what it found

    def _check_settings(self) -> str:
        self._options = options = self._settings()
        for secret in (options.connector_token, options.access_token):
            if secret:
                self._secrets.add(secret)
        if options.base_url is None:
            raise AssertionError("the sandbox is started before the examination")
        self._network = network = Network(
            options.base_url, proxy=options.proxy, ca_certs=options.ca_certs
        )
        proxy = find_proxy(options.proxy, network.scheme, network.host, network.port)
        if proxy is not None and proxy.authorization is not None:
            self._secrets.add(proxy.authorization)
        self._line = Line(network, proxy, options.ca_certs, self._timeout)
        facts = [f"environment {options.environment}"]
        if options.host:
            facts.append(f"host {options.host}")
        if options.connector_token:
            facts.append("a connector token is set")
        return ", ".join(facts)

    def _get_token(self) -> str:
        options = self._options
        if options.access_token is not None:
            self._token = options.access_token
            return "an access token is given"
        token = rest.access_token(
            self._network,
            options.connector_token or "",
            options.host or "",
            deadline=Deadline(self._timeout),
            cancel=Cancel(),
            random=random.random,
        )
        self._token = token.token
        self._secrets.add(token.token)
        return f"the server has given an access token for {token.expires_in:g} s"

    def _make_session(self) -> str:
        self._session = rest.create_session(
            self._network,
            self._token,
            streaming=self._options.streaming,
            platform=self._options.platform,
            deadline=Deadline(self._timeout),
            cancel=Cancel(),
            random=random.random,
        )
        return f"the server has made session {self._session}"

    def _open(self) -> str:
        self._talk = talk = Talk(self._network, self._timeout)
        return talk.open(self._session, self._token)

    @property
    def _on_line(self) -> Line:
        if self._line is None:
            raise AssertionError("the settings come first")
        return self._line

    @property
    def _in_talk(self) -> Talk:
        if self._talk is None:
            raise AssertionError("the WebSocket comes first")
        return self._talk


def _advice(error: PolysyncError) -> str:
    """Return what to do beyond what the error says itself."""
    if isinstance(error, RateLimitError) and error.retry_after is not None:
        return f"The server asks to be left alone for {error.retry_after:g} s."
    if isinstance(error, ConfigurationError):
        return "Correct the setting; nothing else was tried."
    return ""
