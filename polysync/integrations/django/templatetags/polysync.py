"""``{% polysync_chat %}``: puts the chat into a page."""

from __future__ import annotations

from collections.abc import Mapping

from django import template
from django.conf import settings as django_settings
from django.middleware.csrf import get_token
from django.template import Context
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language

from polysync.integrations.django.assets import asset_url
from polysync.integrations.web.embed import script_tag

__all__ = ["polysync_asset", "polysync_chat", "register"]

register = template.Library()


@register.simple_tag(takes_context=True)
def polysync_chat(
    context: Context,
    target: str | None = None,
    title: str | None = None,
    theme: str | None = None,
    language: str | None = None,
    strings: Mapping[str, str] | None = None,
    nonce: str | None = None,
) -> SafeString:
    """Return the script element of the chat.

    Args:
        context: The template's context, with the request.
        target: A CSS selector: the chat fills this element. By default a button floats
            in the corner and opens it.
        title: The name of the chat.
        theme: ``"light"`` or ``"dark"``; by default what the visitor's system says.
        language: The language of the strings; by default the one in force.
        strings: Translations of the strings.
        nonce: The nonce of the content security policy; by default the one that
            Django's or django-csp's middleware has made.
    """
    request = context.get("request") or getattr(context, "request", None)
    if request is None:
        raise template.TemplateSyntaxError(
            "polysync_chat needs the request: render with it, or add the context "
            "processor django.template.context_processors.request"
        )
    if nonce is None:
        # django-csp's middleware keeps it there, Django's own (6.0) under the other.
        kept = getattr(request, "csp_nonce", getattr(request, "_csp_nonce", None))
        nonce = context.get("csp_nonce", kept)
    # Also sees to it that the cookie is set.
    token = get_token(request)
    hidden = django_settings.CSRF_USE_SESSIONS or django_settings.CSRF_COOKIE_HTTPONLY
    tag = script_tag(
        asset_url("chat.js"),
        reverse("polysync:start").removesuffix("/start"),
        stylesheet=asset_url("chat.css"),
        target=target,
        title=None if title is None else str(title),
        theme=theme,
        language=language or get_language(),
        strings=None if strings is None else {k: str(v) for k, v in strings.items()},
        # The cookie is better where scripts can read it: it follows a login that
        # happens in another tab.
        csrf_token=token if hidden else None,
        csrf_cookie=django_settings.CSRF_COOKIE_NAME,
        nonce=None if nonce is None else str(nonce),
    )
    return mark_safe(tag)  # escaped by script_tag


@register.simple_tag
def polysync_asset(name: str) -> str:
    """Return the address of a static file of the chat, such as ``page.css``."""
    return asset_url(name)
