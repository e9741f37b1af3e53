"""The views that the chat page talks to; see `polysync.integrations.web.wire`.

They work under WSGI and under ASGI, where Django runs them in a thread of the request's
own. None is exempt from CSRF protection, none has a side effect on GET, and which
conversation is meant follows from the visitor's session alone.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from django.conf import settings as django_settings
from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    JsonResponse,
)
from django.http.request import RawPostDataException, UnreadablePostError
from django.shortcuts import render, resolve_url
from django.utils.cache import add_never_cache_headers
from django.utils.module_loading import import_string
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import etag, require_safe

from polysync.errors import ConfigurationError
from polysync.integrations.django.assets import asset
from polysync.integrations.django.conf import settings
from polysync.integrations.django.conversations import conversation_key, service
from polysync.integrations.django.csrf import csrf_protect
from polysync.integrations.django.streaming import can_wait, stream_response
from polysync.integrations.web.bodies import RequestError
from polysync.integrations.web.feed import last_event_id

__all__ = [
    "chat",
    "context",
    "end",
    "events",
    "messages",
    "start",
    "static_file",
    "suggestions",
    "typing",
]

logger = logging.getLogger(__name__)

_View = Callable[[HttpRequest], HttpResponseBase]


def _answers(method: str) -> Callable[[Callable[[HttpRequest], Any]], _View]:
    """Make a view of a function that returns JSON, ``None`` or an answer."""

    def decorate(function: Callable[[HttpRequest], Any]) -> _View:
        @functools.wraps(function)
        def view(request: HttpRequest) -> HttpResponseBase:
            try:
                _admit(request, method)
                result = function(request)
            except RequestError as error:
                result = _refusal(error)
            if isinstance(result, HttpResponseBase):
                response = result
            elif result is None:
                response = HttpResponse(status=204)
            else:
                response = JsonResponse(result)
            if not response.streaming:
                add_never_cache_headers(response)
            return response

        # What is saved must be seen by the other processes at once, whatever
        # ATOMIC_REQUESTS says.
        return transaction.non_atomic_requests(csrf_protect(view))

    return decorate


def _admit(request: HttpRequest, method: str) -> None:
    if request.method != method:
        raise RequestError(
            405, "bad_method", f"Only {method} is answered here.", {"Allow": method}
        )
    if settings().login_required and not _signed_in(request):
        raise RequestError(401, "signed_out", "Please sign in.")


def _refusal(error: RequestError) -> JsonResponse:
    return JsonResponse(error.body(), status=error.status, headers=error.headers)


def _signed_in(request: HttpRequest) -> bool:
    user = getattr(request, "user", None)
    return user is not None and bool(user.is_authenticated)


def _key(request: HttpRequest) -> str:
    """Return the name of the visitor's conversation."""
    key = conversation_key(request)
    if key is None:
        raise RequestError(410, "not_found", "There is no conversation.")
    return key


def _body(request: HttpRequest) -> tuple[bytes, str | None]:
    """Return the body and its type, unless it is too large."""
    limit = settings().max_body
    length = request.META.get("CONTENT_LENGTH") or ""
    try:
        if not length:
            body = request.read(limit + 1)  # sent in pieces, however many there are
        elif not length.isdecimal() or int(length) > limit:
            raise RequestDataTooBig
        else:
            body = request.body
    except RequestDataTooBig as error:
        raise RequestError(413, "too_large", "This message is too long.") from error
    except RawPostDataException as error:
        # It was read as a form, by the search for a CSRF token.
        message = "The request must be application/json."
        raise RequestError(415, "bad_type", message) from error
    except UnreadablePostError as error:
        raise RequestError(400, "bad_json", "The request broke off.") from error
    if len(body) > limit:
        raise RequestError(413, "too_large", "This message is too long.")
    return body, request.META.get("CONTENT_TYPE")


@_answers("POST")
def start(request: HttpRequest) -> Any:
    """Continue the visitor's conversation, or begin one."""
    body = _body(request)
    key = conversation_key(request, create=True)
    return service().start(str(key), *body)


@_answers("POST")
def messages(request: HttpRequest) -> Any:
    """Send the visitor's message."""
    return service().send(_key(request), *_body(request))


@_answers("POST")
def typing(request: HttpRequest) -> Any:
    """Show a live agent that the visitor types."""
    return service().typing(_key(request), *_body(request))


@_answers("POST")
def end(request: HttpRequest) -> Any:
    """End the conversation."""
    key = conversation_key(request)
    return None if key is None else service().end(key, *_body(request))


@_answers("GET")
def suggestions(request: HttpRequest) -> Any:
    """Return what the agent suggests to answer."""
    return service().suggestions(_key(request))


@_answers("GET")
def events(request: HttpRequest) -> Any:
    """Stream what happens in the conversation, for some seconds."""
    stream = service().events(
        _key(request),
        last_event_id(request.headers, request.GET),
        patient=can_wait(request),
    )
    return None if stream is None else stream_response(request, stream)


@_answers("POST")
def context(request: HttpRequest) -> Any:
    """Sign what the agent may know of the user who is logged in.

    What that is comes from the function that ``POLYSYNC["CONTEXT"]`` names, never
    from the request's body.
    """
    chosen = settings()
    supply = chosen.context
    if supply is None:
        raise RequestError(404, "no_context", "There is no signed context here.")
    if not _signed_in(request):
        raise RequestError(401, "signed_out", "Please sign in.")
    key = _key(request)
    if isinstance(supply, str):
        supply = import_string(supply)
    try:
        known: Mapping[str, Any] = supply(request)
        return service().sign(
            key,
            known,
            key_id=chosen.context_key_id or "",
            secret=chosen.context_secret or "",
        )
    except ConfigurationError as error:
        logger.error("the context of a user cannot be signed: %s", error)
        message = "The context cannot be signed."
        raise RequestError(500, "misconfigured", message) from error


@ensure_csrf_cookie
@require_safe
def chat(request: HttpRequest) -> HttpResponseBase:
    """Show a page with nothing but the chat."""
    if settings().login_required and not _signed_in(request):
        # Django's own redirect_to_login needs django.contrib.auth to be installed.
        address = resolve_url(django_settings.LOGIN_URL)
        back = urlencode({"next": request.get_full_path()}, safe="/")
        return HttpResponseRedirect(f"{address}{'&' if '?' in address else '?'}{back}")
    return render(request, "polysync/chat.html")


def _version(request: HttpRequest, name: str) -> str | None:
    try:
        return f'"{asset(name).version}"'
    except KeyError:
        return None


@require_safe
@etag(_version)
def static_file(request: HttpRequest, name: str) -> HttpResponse:
    """Give out a static file of the chat."""
    try:
        file = asset(name)
    except KeyError:
        raise Http404(name) from None
    response = HttpResponse(file.body, content_type=file.content_type)
    current = request.GET.get("v") == file.version
    response["Cache-Control"] = (
        "public, max-age=31536000, immutable" if current else "public, no-cache"
    )
    response["X-Content-Type-Options"] = "nosniff"
    return response
