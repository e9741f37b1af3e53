"""``{% polysync_chat %}``."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.http import HttpRequest
from django.template import TemplateSyntaxError, engines
from django.test import RequestFactory, override_settings
from django.utils import translation


def rendered(tag: str, request: HttpRequest | None = None, **context: Any) -> str:
    template = engines["django"].from_string("{% load polysync %}" + tag)
    request = request or RequestFactory().get("/")
    return str(template.render(context, request))


def attributes(tag: str) -> dict[str, str]:
    return {
        name: unescape(value) for name, value in re.findall(r' ([\w-]+)="([^"]*)"', tag)
    }


def test_tag_names_the_views_and_files() -> None:
    """The widget is told where everything is, by the site's own urls."""
    found = attributes(rendered("{% polysync_chat %}"))
    assert found["data-prefix"] == "/chat"
    assert re.fullmatch(r"/chat/chat\.js\?v=\w+", found["src"])
    assert re.fullmatch(r"/chat/chat\.css\?v=\w+", found["data-css"])
    assert "data-target" not in found


def test_tag_escapes_what_it_is_given() -> None:
    """Titles and strings are text, whatever is in them."""
    evil = '"><script>alert(1)</script>'
    tag = rendered(
        "{% polysync_chat title=evil strings=strings %}",
        evil=evil,
        strings={"send": evil},
    )
    assert attributes(tag)["data-title"] == evil
    assert tag.count("<script") == 1


def test_tag_speaks_the_language_in_force() -> None:
    """The widget's language and direction follow the page's."""
    with translation.override("he"):
        assert attributes(rendered("{% polysync_chat %}"))["data-lang"] == "he"
    tag = rendered("{% polysync_chat language='fr' theme='dark' target='#a' %}")
    found = attributes(tag)
    assert (found["data-lang"], found["data-theme"]) == ("fr", "dark")
    assert found["data-target"] == "#a"


def test_tag_has_the_cookie_set() -> None:
    """A page with the tag gives its reader the CSRF cookie."""
    request = RequestFactory().get("/")
    found = attributes(rendered("{% polysync_chat %}", request))
    assert request.META["CSRF_COOKIE"]
    assert found["data-csrf-cookie"] == "csrftoken"
    assert "data-csrf-token" not in found


@pytest.mark.parametrize("setting", ["CSRF_COOKIE_HTTPONLY", "CSRF_USE_SESSIONS"])
def test_tag_carries_the_token_that_scripts_cannot_read(setting: str) -> None:
    """Where the cookie is hidden from scripts, the token is in the tag."""
    with override_settings(**{setting: True}):
        assert len(attributes(rendered("{% polysync_chat %}"))["data-csrf-token"]) > 30


def test_tag_takes_the_nonce_of_the_policy() -> None:
    """The nonce of Django's or django-csp's middleware is found."""
    assert attributes(rendered("{% polysync_chat %}", csp_nonce="a"))["nonce"] == "a"
    request = RequestFactory().get("/")
    request.csp_nonce = "b"  # type: ignore[attr-defined]
    assert attributes(rendered("{% polysync_chat %}", request))["nonce"] == "b"
    request = RequestFactory().get("/")
    request._csp_nonce = "d"  # type: ignore[attr-defined]
    assert attributes(rendered("{% polysync_chat %}", request))["nonce"] == "d"
    tag = rendered("{% polysync_chat nonce='c' %}", csp_nonce="a")
    assert attributes(tag)["nonce"] == "c"


def test_tag_without_a_request() -> None:
    """Without the request there is no CSRF token: the error says what to do."""
    template = engines["django"].from_string("{% load polysync %}{% polysync_chat %}")
    with pytest.raises(TemplateSyntaxError, match="needs the request"):
        template.render({})


def test_tag_uses_staticfiles_where_told() -> None:
    """A site that collects its static files serves the widget's among them."""
    settings = {"STATICFILES": True, "ENVIRONMENT": "sandbox"}
    with override_settings(POLYSYNC=settings, STATIC_URL="https://cdn.example/"):
        found = attributes(rendered("{% polysync_chat %}"))
    assert found["src"] == "https://cdn.example/polysync/chat.js"
