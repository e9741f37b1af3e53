"""The errors of polysync, one tree.

::

    PolysyncError
    ├── ConfigurationError (also ValueError)   a wrong setting or argument
    │   └── MessageTooLargeError               the frame exceeds the session's limit
    ├── AuthenticationError                    the server refused the credentials
    ├── RateLimitError                         429, and waiting did not help
    ├── ServerError                            5xx, and trying again did not help
    ├── ConnectionLostError                    unreachable, or lost for good
    ├── SessionNotFoundError                   unknown or expired: not to be resumed
    │   └── SessionTokenError                  (also AuthenticationError)
    ├── SessionEndedError                      the conversation is over
    ├── DeliveryError                          not, or not certainly, delivered
    │   └── DeliveryTimeoutError               (also TimeoutError)
    ├── AgentError                             the server says that the call failed
    ├── ProtocolError                          not what the protocol allows
    ├── PolysyncTimeoutError (also TimeoutError)
    │   ├── ConnectTimeoutError                connect() ran out of time
    │   ├── ReplyTimeoutError                  no whole reply in time
    │   ├── ReceiveTimeoutError                no message or event in time
    │   └── EndTimeoutError                    the end was not confirmed in time
    └── ClientClosedError                      closed, or never connected
        └── ForkedError                        the client is the parent process's

All of them survive a pickle: every attribute beyond the message is a keyword with
a default. None ever holds a connector token, an access token or a proxy password.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "AgentError",
    "AuthenticationError",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "DeliveryError",
    "DeliveryTimeoutError",
    "EndTimeoutError",
    "ForkedError",
    "MessageTooLargeError",
    "PolysyncError",
    "PolysyncTimeoutError",
    "ProtocolError",
    "RateLimitError",
    "ReceiveTimeoutError",
    "ReplyTimeoutError",
    "ServerError",
    "SessionEndedError",
    "SessionNotFoundError",
    "SessionTokenError",
]


class PolysyncError(Exception):
    """The base of all errors that polysync raises."""

    #: Whether the same call may succeed if it is made again in a while.
    retryable: bool = False

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        for name, value in facts.items():
            setattr(self, name, value)


class ConfigurationError(PolysyncError, ValueError):
    """A setting or an argument is missing or wrong; nothing was sent."""


class MessageTooLargeError(ConfigurationError):
    """The message's frame is larger than the session allows; nothing was sent."""

    def __init__(self, message: str = "", *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        #: Size of the whole frame, in bytes.
        self.size = size
        #: Largest frame that the session takes, in bytes (``max_message_size_bytes``).
        self.limit = limit


class _AnsweredError(PolysyncError):
    """An HTTP answer that ends the attempt."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        reason: str | None = None,
        correlation_id: str | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        #: HTTP status of the answer.
        self.status = status
        #: The server's own words.
        self.reason = reason
        #: ``X-Polyai-Correlation-Id`` of the request, for the vendor's support.
        self.correlation_id = correlation_id


class AuthenticationError(_AnsweredError):
    """The server refused the connector token, the host or the access token."""


class RateLimitError(_AnsweredError):
    """The server kept answering 429 for as long as the call could wait."""

    retryable = True

    def __init__(
        self, message: str = "", *, retry_after: float | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        #: Seconds after which the server asked to be called again, if it said so.
        self.retry_after = retry_after


class ServerError(_AnsweredError):
    """The server kept failing (5xx) for as long as the call could try again."""

    retryable = True


class ConnectionLostError(PolysyncError):
    """The server cannot be reached, or all reconnection attempts have failed."""

    retryable = True

    def __init__(
        self, message: str = "", *, attempts: int = 0, close_code: int | None = None
    ) -> None:
        super().__init__(message)
        #: How many attempts failed in a row.
        self.attempts = attempts
        #: Close code of the last connection, if there was one.
        self.close_code = close_code


class SessionNotFoundError(PolysyncError):
    """The server does not know the session (any more): it cannot be resumed."""

    def __init__(
        self, message: str = "", *, session_id: str | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        #: The session that was asked for.
        self.session_id = session_id


class SessionTokenError(AuthenticationError, SessionNotFoundError):
    """The server refused the session's own access token: it cannot be resumed.

    A session belongs to the very token that it was created with, so there is no
    other token to try.
    """


class SessionEndedError(PolysyncError):
    """The conversation is over: it takes and gives no more messages."""

    def __init__(self, message: str = "", *, reason: str | None = None) -> None:
        super().__init__(message)
        #: `polysync.SessionEndReason`, or what the server said, or ``None``.
        self.reason = reason


class DeliveryError(PolysyncError):
    """A message was not delivered, or nobody can know whether it was."""

    retryable = True

    def __init__(
        self,
        message: str = "",
        *,
        text: str = "",
        metadata: Mapping[str, str] | None = None,
        uncertain: bool = False,
    ) -> None:
        super().__init__(message)
        #: The text as it was given to the call.
        self.text = text
        #: The custom metadata as it was given to the call.
        self.metadata = dict(metadata or {})
        #: True when the message may have reached the server all the same; false
        #: when it provably has not, so that sending it again cannot double it.
        self.uncertain = uncertain


class DeliveryTimeoutError(DeliveryError, TimeoutError):
    """The receipt (the echo) of a message did not come within the timeout."""


class AgentError(PolysyncError):
    """An error-level system message in answer to the call."""

    def __init__(self, message: str = "", *, transient: bool = False) -> None:
        super().__init__(message)
        #: The server's own words.
        self.message = message
        #: Whether sending again in a few seconds may succeed.
        self.transient = transient
        self.retryable = transient

    def __str__(self) -> str:
        advice = "; sending again in a few seconds may help" if self.transient else ""
        return f"the server answered with an error: {self.message}{advice}"


class ProtocolError(PolysyncError):
    """The server sent something that the protocol does not allow."""

    def __init__(
        self, message: str = "", *, path: str | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        #: Where in the frame the trouble is, such as ``$.payload.events[3].id``.
        self.path = path


class PolysyncTimeoutError(PolysyncError, TimeoutError):
    """The base of the errors for a wait that ran out of time."""

    retryable = True

    def __init__(self, message: str = "", *, timeout: float | None = None) -> None:
        super().__init__(message)
        #: The time that the call was given, in seconds.
        self.timeout = timeout


class ConnectTimeoutError(PolysyncTimeoutError):
    """`Client.connect` ran out of time; the message says at which step."""


class ReplyTimeoutError(PolysyncTimeoutError):
    """The agent's whole reply did not come within the timeout."""


class ReceiveTimeoutError(PolysyncTimeoutError):
    """No message, or no event of the wanted types, came within the timeout."""


class EndTimeoutError(PolysyncTimeoutError):
    """The server did not confirm the end of the session within the timeout."""


class ClientClosedError(PolysyncError):
    """The client is closed or was never connected."""


class ForkedError(ClientClosedError):
    """The client was made by the parent process and does not survive the fork."""
