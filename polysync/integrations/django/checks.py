"""System checks: what would go wrong, or leak, before it does.

=================  ================================================================
``polysync.E001``  there is no connector token, and the environment is not the sandbox
``polysync.E002``  ``POLYSYNC``, or an option of the client in it, is wrong
``polysync.E003``  the cache of the store does not exist
``polysync.E004``  there is no session middleware, so nobody could be told apart
``polysync.W001``  the connector token stands in the source of the settings
``polysync.W002``  the cache of the store is not shared by processes
``polysync.W003``  a middleware compresses answers, the stream among them
``polysync.W004``  ``CSRF_HEADER_NAME`` is not the one that the page sends
``polysync.W005``  the cache of the store throws conversations out when it has many
=================  ================================================================

Django runs checks in management commands only, not under a WSGI or ASGI server:
``manage.py check --tag polysync`` belongs into the deployment.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from django.conf import ENVIRONMENT_VARIABLE
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from polysync.client import Client
from polysync.errors import ConfigurationError
from polysync.integrations.django.conf import Settings, read
from polysync.sessions.store import CacheStore

__all__ = ["TAG", "check_polysync"]

#: ``manage.py check --tag polysync`` runs these checks alone.
TAG = "polysync"

_LOCAL_CACHES = {
    "django.core.cache.backends.locmem.LocMemCache": (
        "keeps the conversations in the memory of one process",
        "The other workers, and the same one after a restart, will not know them.",
    ),
    "django.core.cache.backends.dummy.DummyCache": (
        "keeps nothing",
        "Each conversation is forgotten at once.",
    ),
}

# These remove a third of what they keep as soon as it is more than MAX_ENTRIES, and do
# not mind what is still needed.
_CULLED_CACHES = (
    "django.core.cache.backends.db.DatabaseCache",
    "django.core.cache.backends.filebased.FileBasedCache",
)
#: What such a cache is to hold at least: each conversation takes an entry, and with
#: receivers of the signals one more for each message; the site has its own.
_ENOUGH_ENTRIES = 10_000


def check_polysync(**_: Any) -> list[CheckMessage]:
    """Check the setting ``POLYSYNC`` and what the app needs of the others."""
    found = [*_middlewares()]
    try:
        settings = read(getattr(django_settings, "POLYSYNC", {}))
    except ImproperlyConfigured as error:
        hint = "The keys are described in polysync.integrations.django.conf.Settings."
        return [Error(str(error), hint=hint, id="polysync.E002"), *found]
    return [
        *_credentials(settings),
        *_context(settings),
        *_store(settings),
        *found,
    ]


def _credentials(settings: Settings) -> Iterator[CheckMessage]:
    options = settings.client_options()
    environment = options.get("environment") or os.environ.get("POLYSYNC_ENVIRONMENT")
    token = (
        options.get("connector_token")
        or options.get("access_token")
        or os.environ.get("POLYSYNC_CONNECTOR_TOKEN")
    )
    if not token and environment != "sandbox":
        yield Error(
            "There is no connector token.",
            hint="Set POLYSYNC['CONNECTOR_TOKEN'] from the environment or a secret "
            "store, or $POLYSYNC_CONNECTOR_TOKEN; POLYSYNC['ENVIRONMENT'] = 'sandbox' "
            "needs none.",
            id="polysync.E001",
        )
        return
    try:
        Client(**options)  # starts nothing
    except (ConfigurationError, TypeError) as error:
        yield Error(
            f"The client cannot be made: {error}",
            hint="See the options of polysync.Client.",
            id="polysync.E002",
        )
    literal = settings.connector_token
    if literal and not django_settings.DEBUG and _in_source(literal):
        yield Warning(
            "The connector token stands in the source of the settings.",
            hint="Whoever reads the code can talk in your name, and pay with your "
            "money. Take it from the environment: os.environ['…'].",
            id="polysync.W001",
        )


def _context(settings: Settings) -> Iterator[CheckMessage]:
    if settings.context is None:
        return
    if not (settings.context_key_id and settings.context_secret):
        yield Error(
            "POLYSYNC['CONTEXT'] is set, but nothing to sign it with.",
            hint="Set POLYSYNC['CONTEXT_KEY_ID'] and POLYSYNC['CONTEXT_SECRET'].",
            id="polysync.E002",
        )
    elif isinstance(settings.context, str):
        try:
            import_string(settings.context)
        except ImportError as error:
            yield Error(
                f"POLYSYNC['CONTEXT'] cannot be imported: {error}",
                hint="Name a function of the request by its dotted path.",
                id="polysync.E002",
            )


def _store(settings: Settings) -> Iterator[CheckMessage]:
    alias = settings.cache
    cache = getattr(django_settings, "CACHES", {}).get(alias)
    if cache is None:
        yield Error(
            f"POLYSYNC['CACHE'] is {alias!r}, which is not in CACHES.",
            hint="Name a cache that all processes share.",
            id="polysync.E003",
        )
        return
    if cache.get("BACKEND") in _LOCAL_CACHES:
        what, then = _LOCAL_CACHES[cache["BACKEND"]]
        yield Warning(
            f"The cache {alias!r} of the conversations {what}.",
            hint=f"{then} Use Redis, Memcached, the database or files in "
            f"CACHES[{alias!r}], or another alias in POLYSYNC['CACHE'].",
            id="polysync.W002",
        )
    room = _room(cache)
    if room is not None and room < _ENOUGH_ENTRIES:
        yield Warning(
            f"The cache {alias!r} keeps {room:,} entries at most, and removes "
            "conversations that go on when there are more.",
            hint="Say CACHES[…]['OPTIONS'] = {'MAX_ENTRIES': 100_000}, or use Redis or "
            "Memcached.",
            id="polysync.W005",
        )
    try:
        CacheStore(_Nothing(), encryption_keys=settings.encryption_keys)
    except ConfigurationError as error:
        yield Error(
            f"POLYSYNC['ENCRYPTION_KEYS'] are of no use: {error}",
            hint="Each is what cryptography.fernet.Fernet.generate_key() returns.",
            id="polysync.E002",
        )


def _room(cache: Mapping[str, Any]) -> int | None:
    """Return how many entries a cache keeps at most; ``None`` if all that fit."""
    if cache.get("BACKEND") not in _CULLED_CACHES:
        return None
    options = cache.get("OPTIONS") or {}
    try:
        return int(cache.get("max_entries", options.get("MAX_ENTRIES", 300)))
    except (TypeError, ValueError):
        return 300  # so does Django


def _middlewares() -> Iterator[CheckMessage]:
    middlewares = list(getattr(django_settings, "MIDDLEWARE", None) or ())
    if not any("session" in each.lower() for each in middlewares):
        yield Error(
            "There is no session middleware: visitors could not be told apart.",
            hint="Add 'django.contrib.sessions.middleware.SessionMiddleware' to "
            "MIDDLEWARE, and 'django.contrib.sessions' to INSTALLED_APPS if its engine "
            "needs it.",
            id="polysync.E004",
        )
    for each in middlewares:
        if any(word in each.lower() for word in ("gzip", "brotli", "compress")):
            yield Warning(
                f"The middleware {each} compresses answers; messages would be held "
                "back in the stream until enough of them have gathered.",
                hint="The stream says Content-Encoding: identity, which Django's own "
                "GZipMiddleware respects. Make sure that yours does, then silence "
                "this check.",
                id="polysync.W003",
            )
    if django_settings.CSRF_HEADER_NAME != "HTTP_X_CSRFTOKEN":
        yield Warning(
            "CSRF_HEADER_NAME is changed, but the page sends X-CSRFToken.",
            hint="Leave it at its default, or all posts of the chat are refused.",
            id="polysync.W004",
        )


def _in_source(token: str) -> bool:
    """Tell whether the token is written down in a module of the settings."""
    for module in _settings_modules():
        path = getattr(module, "__file__", None)
        if path is None or not path.endswith(".py"):
            continue
        try:
            tree = ast.parse(Path(path).read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value == token:
                return True
    return False


def _settings_modules() -> Iterator[ModuleType]:
    """Yield the settings' module and those beside it that it may be made of."""
    name = os.environ.get(ENVIRONMENT_VARIABLE) or getattr(
        django_settings, "SETTINGS_MODULE", ""
    )
    if not name:
        return
    yield importlib.import_module(name)
    package = name.rpartition(".")[0]
    for other, module in list(sys.modules.items()):
        beside = package and other.startswith(f"{package}.") and other != name
        if beside and ("settings" in other or "config" in other):
            yield module


class _Nothing:
    """A cache for trying keys out on."""

    def get(self, key: str) -> None:
        """Know nothing."""

    def set(self, key: str, value: Any, timeout: Any = None) -> None:
        """Keep nothing."""

    def add(self, key: str, value: Any, timeout: Any = None) -> bool:
        """Keep nothing."""
        return False

    def delete(self, key: str) -> None:
        """Keep nothing."""
