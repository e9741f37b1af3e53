"""CSRF protection whose refusals the page can read: JSON instead of HTML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.urls import Resolver404, resolve
from django.utils.decorators import decorator_from_middleware
from django.views.csrf import csrf_failure as html_failure

from polysync.integrations.web.bodies import error_body

__all__ = ["csrf_failure", "csrf_protect"]

APP_NAME = "polysync"


def csrf_failure(
    request: HttpRequest, reason: str = "", **arguments: Any
) -> HttpResponseBase:
    """Answer a request without a valid CSRF token; for ``CSRF_FAILURE_VIEW``.

    The chat is answered in JSON, everything else as Django does by default.

    Args:
        request: The request.
        reason: Why, for developers.
        **arguments: As Django's own view takes them.
    """
    if _is_ours(request):
        return _refusal()
    return html_failure(request, reason, **arguments)


def _is_ours(request: HttpRequest) -> bool:
    try:
        match = request.resolver_match or resolve(request.path_info)
    except (Resolver404, ImproperlyConfigured):
        return False
    return APP_NAME in match.app_names


def _refusal() -> JsonResponse:
    message = "Please reload the page: its protection against forgery has expired."
    return JsonResponse(error_body("csrf", message), status=403)


class _JsonCsrf(CsrfViewMiddleware):
    """Django's protection, for sites that do not have it as a middleware."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        # For its log. The stubs of Django leave out what is private.
        super()._reject(request, reason)  # type: ignore[misc]
        return _refusal()


#: Protects a view, whether the site has Django's middleware or not.
csrf_protect: Callable[[Callable[..., Any]], Callable[..., Any]] = (
    decorator_from_middleware(_JsonCsrf)
)
