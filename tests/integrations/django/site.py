"""The site's urls, views and applications."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import engines
from django.urls import include, path
from django.utils.decorators import sync_and_async_middleware

from polysync.integrations.django import conversations

PAGE = """{% load polysync %}<!doctype html><title>A page</title>
<h1>A page of the site</h1>{% polysync_chat title="Harbour Table" %}"""


def page(request: HttpRequest) -> HttpResponse:
    """A page with the chat's button in its corner."""
    return HttpResponse(engines["django"].from_string(PAGE).render({}, request))


def sign_in(request: HttpRequest) -> HttpResponse:
    request.session["user"] = "ada"
    return HttpResponse()


@sync_and_async_middleware
def someone(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """Stand in for django.contrib.auth's, and say which process it is."""

    def name(request: HttpRequest) -> None:
        signed_in = "ada" if request.session.get("user") else ""
        request.user = SimpleNamespace(  # type: ignore[assignment]
            is_authenticated=bool(signed_in), name=signed_in
        )

    def sign(response: Any) -> Any:
        response.headers["X-Process"] = str(os.getpid())
        return response

    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> Any:
            await sync_to_async(name)(request)
            return sign(await get_response(request))

        return asynchronous

    def synchronous(request: HttpRequest) -> Any:
        name(request)
        return sign(get_response(request))

    return synchronous


def about(request: Any) -> dict[str, Any]:
    """What the agent may know of the user."""
    return {"name": request.user.name, "tier": "gold"}


def stats(request: HttpRequest) -> JsonResponse:
    """What goes on in this process, for the tests of servers."""
    counters = conversations.pool().statistics
    return JsonResponse(
        {
            "streams": conversations.service().streams,
            "live": counters.live,
            "in_use": counters.in_use,
            "threads": [thread.name for thread in threading.enumerate()],
        }
    )


urlpatterns = [
    path("", page),
    path("sign-in", sign_in),
    path("stats", stats),
    path("chat/", include("polysync.integrations.django.urls")),
]
