"""The two REST calls that begin a conversation: access token, session."""

from __future__ import annotations

import email.utils
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from polysync.errors import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ConnectionLostError,
    ConnectTimeoutError,
    PolysyncError,
    ProtocolError,
    RateLimitError,
    ServerError,
)
from polysync.runtime.clock import Deadline
from polysync.runtime.network import Answer, Cancel, Network, user_agent
from polysync.runtime.redact import Secret, redact

__all__ = ["AccessToken", "access_token", "create_session", "parse_retry_after"]

logger = logging.getLogger(__name__)

#: How often a call is made again.
RETRIES = 3
#: The first wait before a retry, doubled each time, in seconds.
BASE_DELAY = 0.5
#: How long one attempt may take when there is time for another, in seconds.
ATTEMPT_TIMEOUT = 10.0
#: The wait after a 429 that names none, and the longest, in seconds.
RATE_LIMIT_DELAY = 5.0
RATE_LIMIT_DELAY_MAX = 30.0

_DEFAULT_LIFE = 3600.0

#: Gives a number from 0 up to, not including, 1.
Random = Callable[[], float]

# What the server says with a 401, and what to do about it.
_ADVICE = {
    "missing authentication headers": (
        "the connector token or the host did not arrive; check that both are set, and "
        "that no proxy strips request headers"
    ),
    "connector token does not exist": (
        "there is no such connector token; check it, and whether it belongs to this "
        "environment"
    ),
    "failed to validate connector": (
        "the host is not the one that is registered for the connector; give the "
        "registered domain or app namespace as host"
    ),
    "connector missing host domain": (
        "no host is registered for the connector; register one in Agent Studio"
    ),
    "invalid access token": (
        "the access token is malformed, expired or of another environment; get a "
        "fresh one"
    ),
}


class AccessToken(NamedTuple):
    """An access token and how long it lives."""

    #: The JSON Web Token, a secret.
    token: str
    #: Seconds from when it was issued.
    expires_in: float

    def __repr__(self) -> str:
        return f"<AccessToken for {self.expires_in:g} s>"


def access_token(
    network: Network,
    connector_token: str,
    host: str,
    *,
    deadline: Deadline,
    cancel: Cancel,
    random: Random,
) -> AccessToken:
    """Exchange a connector token for an access token.

    Args:
        network: The way to the server.
        connector_token: The connector's secret.
        host: The host that is registered for it.
        deadline: When the call must be over, retries and waits included.
        cancel: Stops the call, and its waits, from another thread.
        random: Spreads the retries.

    Raises:
        AuthenticationError: The token or the host was refused.
        RateLimitError: 429, and there is no time to wait as long as asked.
        ServerError: 5xx, again and again.
        ConnectionLostError: The server cannot be reached.
        ConnectTimeoutError: The deadline passed.
        ConfigurationError: The token or the host cannot be sent in a header, or the
            address is not one of the Messaging API.
        ProtocolError: The answer is not what the protocol says.
        ClientClosedError: Cancelled.
    """
    _sendable(connector_token, "connector token")
    _sendable(host, "host")
    call = _Call(network, "/api/v1/access-token", deadline, cancel, random)
    secret = Secret(connector_token)
    if secret not in network.secrets:
        network.secrets.append(secret)
    content = call.make({"X-Token": secret, "X-Host": host}, {})
    token = call.text_field(content, "access_token")
    _sendable(token, "access token that the server gave", ProtocolError)
    life = content.get("expires_in")
    if isinstance(life, bool) or not isinstance(life, (int, float)) or not life > 0:
        life = _DEFAULT_LIFE
    return AccessToken(token, float(life))


def create_session(
    network: Network,
    access_token: str,
    *,
    streaming: bool,
    platform: str,
    deadline: Deadline,
    cancel: Cancel,
    random: Random,
) -> str:
    """Create a session, which is one conversation.

    Args:
        network: The way to the server.
        access_token: The token that the session will belong to.
        streaming: Whether replies come in chunks.
        platform: What the user is on, such as ``web``.
        deadline: When the call must be over, retries and waits included.
        cancel: Stops the call, and its waits, from another thread.
        random: Spreads the retries.

    Returns:
        The session's id.

    Raises:
        PolysyncError: As `access_token`.
    """
    _sendable(access_token, "access token")
    call = _Call(network, "/api/v1/sessions", deadline, cancel, random)
    if access_token not in network.secrets:
        network.secrets.append(Secret(access_token))
    content = call.make(
        {"Authorization": Secret(f"Bearer {access_token}")},
        {"streaming_enabled": streaming, "platform": platform},
    )
    return call.text_field(content, "session_id")


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for.

    Args:
        value: Seconds, with or without a fraction, or an HTTP date.
        now: The time that a date is compared with.

    Returns:
        Seconds, not below 0; ``None`` when there is none or it makes no sense.
    """
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"\d{1,9}(\.\d*)?|\.\d+", value):
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    now = datetime.now(timezone.utc) if now is None else now
    return max(0.0, (when - now).total_seconds())


class _Call:
    """One REST call with its retries."""

    def __init__(
        self,
        network: Network,
        path: str,
        deadline: Deadline,
        cancel: Cancel,
        random: Random,
    ) -> None:
        self.network = network
        self.path = path
        self.deadline = deadline
        self.cancel = cancel
        self.random = random
        self.correlation_id = ""

    def make(self, headers: Mapping[str, str], body: object) -> dict[str, Any]:
        """Call until there is an answer to go by, and return its content."""
        for attempt in range(RETRIES + 1):
            answer: Answer | None = None
            try:
                answer = self.send(headers, body, last=attempt == RETRIES)
            except (ConnectionLostError, ConnectTimeoutError) as error:
                if not error.retryable or attempt == RETRIES or self.deadline.expired:
                    raise
                problem: PolysyncError = error
                delay = self.backoff(attempt)
            else:
                if 200 <= answer.status < 300:
                    return self.content(answer)
                problem = self.problem(answer)
                if not problem.retryable or attempt == RETRIES:
                    raise problem
                delay = self.backoff(attempt)
                if isinstance(problem, RateLimitError):
                    delay = RATE_LIMIT_DELAY
                    if problem.retry_after is not None:
                        delay = min(problem.retry_after, RATE_LIMIT_DELAY_MAX)
            left = self.deadline.remaining()
            if left is not None and delay >= left:
                raise problem
            logger.info(
                "%s failed (%s); trying again in %.1f s",
                self.path,
                "network" if answer is None else answer.status,
                delay,
            )
            if self.cancel.wait(delay):
                raise ClientClosedError("The client was closed while it connected.")
        raise AssertionError("the last attempt returns or raises")

    def send(self, headers: Mapping[str, str], body: object, last: bool) -> Answer:
        self.correlation_id = str(uuid.uuid4())
        deadline = self.deadline
        if not last:
            deadline = deadline.within(ATTEMPT_TIMEOUT)
        return self.network.request(
            "POST",
            self.path,
            headers={
                **headers,
                "Accept": "application/json",
                "Content-Type": "application/json",
                "User-Agent": user_agent(),
                "X-Polyai-Correlation-Id": self.correlation_id,
            },
            body=json.dumps(body).encode(),
            deadline=deadline,
            cancel=self.cancel,
        )

    def backoff(self, attempt: int) -> float:
        return float(BASE_DELAY * 2**attempt * (0.5 + self.random()))

    def content(self, answer: Answer) -> dict[str, Any]:
        try:
            content = json.loads(answer.body)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise ProtocolError(
                f"{self.network.host} answered {self.path} with something that is not "
                f"JSON ({answer.headers.get('content-type', 'no content type')}): a "
                "captive portal or a proxy may have answered in its place."
            )
        return content

    def text_field(self, content: Mapping[str, Any], name: str) -> str:
        value = content.get(name)
        if not isinstance(value, str) or not value:
            what = "no" if value is None or value == "" else "an unusable"
            raise ProtocolError(
                f"{self.network.host} answered {self.path} with {what} {name}: "
                "something else than the Messaging API, such as a captive portal or a "
                "proxy, may have answered.",
                path=f"$.{name}",
            )
        return value

    def problem(self, answer: Answer) -> PolysyncError:
        """Turn an answer that is not a success into the error that it means."""
        status = answer.status
        reason = error_text(answer.body, self.network.secrets)
        said = f"{status}, {reason!r}" if reason else str(status)
        facts: dict[str, Any] = {
            "status": status,
            "reason": reason or None,
            "correlation_id": self.correlation_id,
        }
        where = f"{self.network.host}{self.path}"
        if status == 429:
            return RateLimitError(
                f"{where} wants to be called less often ({said}); wait and try again.",
                retry_after=parse_retry_after(answer.headers.get("retry-after")),
                **facts,
            )
        if status >= 500:
            return ServerError(
                f"{where} failed ({said}); try again later, and give the vendor the "
                f"correlation id {self.correlation_id} if it goes on.",
                **facts,
            )
        if status in (401, 403):
            advice = _ADVICE.get(
                reason.strip(" .").lower(),
                "check the connector token, the host and the environment",
            )
            return AuthenticationError(
                f"The server refused the credentials ({said}): {advice}. Correlation "
                f"id {self.correlation_id}.",
                **facts,
            )
        if status == 404:
            return ConfigurationError(
                f"There is no Messaging API at {self.network.base_url} (404 for "
                f"{self.path}); check the environment.",
                **facts,
            )
        if status == 407:
            return ConfigurationError(
                "A proxy wants credentials (407); give them as "
                "proxy='http://user:password@host:port'.",
                **facts,
            )
        if 300 <= status < 400:
            return ProtocolError(
                f"{where} redirects elsewhere ({status}), which the Messaging API does "
                "not do: a captive portal may have answered, or the environment's "
                "address is wrong.",
                **facts,
            )
        return ProtocolError(
            f"{where} did not understand the request ({said}): please report this as "
            f"a bug of polysync, with the correlation id {self.correlation_id}.",
            **facts,
        )


def error_text(body: bytes, secrets: Iterable[str] = ()) -> str:
    """Return the words of an error answer: its ``error`` or ``message``, or ``""``."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(content, dict):
        return ""
    for name in ("error", "message"):
        value = content.get(name)
        if isinstance(value, dict):
            value = value.get("message")
        if isinstance(value, str) and value:
            return redact(value, *secrets)[:200]
    return ""


def _sendable(
    value: str, what: str, error: type[PolysyncError] = ConfigurationError
) -> None:
    """Refuse, without showing it, what cannot stand in a header."""
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise error(
            f"The {what} is empty or holds characters that cannot be sent, such as a "
            "line end or a space; check for a stray one at its end."
        )
