"""Checks what the page posts, and says as HTTP what went wrong.

=======  =====================  ====================================================
status   code                   when
=======  =====================  ====================================================
400      ``bad_json``           the body is not a JSON object
401 403  the framework's        not signed in; the CSRF token is missing or wrong, or
                                the request comes from another site
404      ``no_context``         this conversation takes no signed context
409      ``ended``              the conversation is over
410      ``not_found``          there is no conversation, or it cannot be resumed
413      ``too_large``          the body, or the message, is larger than allowed
415      ``bad_type``           the body is not ``application/json``
422      ``empty``              there is no text in the message
422      ``bad_value``          a field has a value that it cannot have
429      ``busy``               too many requests; ``Retry-After`` may say how long
500      the framework's        the site's own fault: its log says what is wrong
502      ``upstream``           PolyAI's side failed
503      ``unavailable``        PolyAI cannot be reached now
504      ``timeout``            PolyAI did not answer in time
=======  =====================  ====================================================

Every body is ``{"error": {"code", "message"}}``. The messages are written for the
page's reader and say nothing of settings, addresses or tokens.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from email.message import Message as Headers
from typing import Any

from polysync import errors
from polysync.integrations.web.wire import CLIENT_ID_KEY
from polysync.models import TypingState

__all__ = [
    "MAX_BODY",
    "PageMessage",
    "RequestError",
    "error_body",
    "read_message",
    "read_object",
    "read_start",
    "read_typing",
    "request_error",
]

#: Largest body that is read, in bytes. A message's frame may have 131,072 in all.
MAX_BODY = 128 * 1024

_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class RequestError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP status.
        code: The error in one word, for programs.
        message: The error in a sentence, for people.
        headers: Further headers of the answer, such as ``Retry-After``.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.code, self.message, self.headers)

    def body(self) -> dict[str, Any]:
        """Return the body of the answer, to be written as JSON."""
        return error_body(self.code, self.message)


@dataclass(frozen=True)
class PageMessage:
    """What the visitor wrote."""

    #: The text, without surrounding space, never empty.
    text: str
    #: The page's own name for the message; the same when it is posted again.
    client_id: str | None = None
    #: What to send along: `polysync.Client.send_message` takes it as ``metadata``.
    metadata: dict[str, str] = field(default_factory=dict)


def error_body(code: str, message: str) -> dict[str, Any]:
    """Return the body of an error answer, to be written as JSON."""
    return {"error": {"code": code, "message": message}}


def read_object(
    body: bytes, content_type: str | None, *, limit: int = MAX_BODY
) -> dict[str, Any]:
    """Read a request's body as a JSON object.

    Check ``Content-Length`` before reading the body, so that an oversized one is not
    read at all; this function checks what has been read.

    Args:
        body: The body as it came.
        content_type: The request's ``Content-Type``.
        limit: Largest body allowed, in bytes.

    Raises:
        RequestError: 413 too large, 415 not declared as JSON, 400 not a JSON object.
    """
    if len(body) > limit:
        raise RequestError(413, "too_large", "This message is too long.")
    headers = Headers()
    headers["Content-Type"] = content_type or ""
    if not content_type or headers.get_content_type() != "application/json":
        # A page of another site can post forms and plain text here without asking,
        # but JSON only after a preflight that nobody answers.
        raise RequestError(415, "bad_type", "The request must be application/json.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "bad_json", "The request is not JSON.") from error
    if not isinstance(value, dict):
        raise RequestError(400, "bad_json", "The request is not a JSON object.")
    return value


def read_message(
    body: bytes, content_type: str | None, *, limit: int = MAX_BODY
) -> PageMessage:
    """Read the body of ``POST …/messages``.

    Args:
        body: The body as it came.
        content_type: The request's ``Content-Type``.
        limit: Largest body allowed, in bytes.

    Raises:
        RequestError: as `read_object`; 422 without text or with a bad ``client_id``.
    """
    value = read_object(body, content_type, limit=limit)
    text = value.get("text")
    if not isinstance(text, str):
        raise RequestError(422, "bad_value", "The message's text is missing.")
    # Half of a surrogate pair cannot be sent on.
    text = text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8").strip()
    if not text:
        raise RequestError(422, "empty", "The message is empty.")
    client_id = value.get("client_id")
    if client_id is None:
        return PageMessage(text)
    if not isinstance(client_id, str) or not _CLIENT_ID.fullmatch(client_id):
        raise RequestError(422, "bad_value", "The message's client_id is not one.")
    return PageMessage(text, client_id, {CLIENT_ID_KEY: client_id})


def read_typing(body: bytes, content_type: str | None) -> TypingState:
    """Read the body of ``POST …/typing``.

    Raises:
        RequestError: as `read_object`; 422 for any other state.
    """
    state = read_object(body, content_type).get("state")
    if state == "started":
        return TypingState.STARTED
    if state == "stopped":
        return TypingState.STOPPED
    raise RequestError(422, "bad_value", 'The state is "started" or "stopped".')


def read_start(body: bytes, content_type: str | None) -> bool:
    """Read the body of ``POST …/start``: whether a new conversation is wanted.

    Raises:
        RequestError: as `read_object`; 422 if ``new`` is not true or false.
    """
    new = read_object(body, content_type).get("new", False)
    if not isinstance(new, bool):
        raise RequestError(422, "bad_value", "new is true or false.")
    return new


def request_error(error: errors.PolysyncError) -> RequestError:
    """Say a failed call of the client as HTTP, without its details.

    Log the error itself: its message is for the site's operator, not its visitors.
    """
    match error:
        case errors.MessageTooLargeError():
            return RequestError(413, "too_large", "This message is too long.")
        case errors.SessionEndedError():
            return RequestError(409, "ended", "This conversation has ended.")
        case errors.SessionNotFoundError():
            return RequestError(410, "not_found", "This conversation is over.")
        case errors.RateLimitError():
            seconds = max(1, round(error.retry_after or 5))
            return RequestError(
                429, "busy", "Please try again soon.", {"Retry-After": str(seconds)}
            )
        case TimeoutError():
            return RequestError(504, "timeout", "There was no answer in time.")
        case errors.ConnectionLostError() | errors.ClientClosedError():
            return RequestError(503, "unavailable", "The chat cannot be reached.")
        case _:
            return RequestError(502, "upstream", "The chat is not working right now.")
