"""The setting ``POLYSYNC``: one dictionary, its keys and their defaults."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import attrs
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from polysync.integrations.web.bodies import MAX_BODY

__all__ = ["Settings", "read", "settings"]


def _is(kind: type | tuple[type, ...], wording: str) -> Any:
    """Make a validator that says what is expected in words."""

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        odd = isinstance(value, bool) and kind is not bool  # True is an int, too
        if odd or not isinstance(value, kind):
            raise ImproperlyConfigured(
                f"POLYSYNC[{attribute.name.upper()!r}] must be {wording}, not "
                f"{type(value).__name__}"
            )

    return check


def _number(fits: Callable[[float], bool], wording: str, *, whole: bool = False) -> Any:
    """Make a validator of finite numbers."""
    kinds = int if whole else (int, float)

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        odd = isinstance(value, bool) or not isinstance(value, kinds)
        if odd or not math.isfinite(value) or not fits(value):
            # The value itself is left out: it may be a secret under the wrong key.
            raise ImproperlyConfigured(
                f"POLYSYNC[{attribute.name.upper()!r}] must be {wording}"
            )

    return check


def _prefix(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    fits = isinstance(value, str) and len(value) <= _LONGEST_PREFIX
    if not fits or any(ord(c) <= 32 or ord(c) == 127 for c in value):
        raise ImproperlyConfigured(
            f"POLYSYNC[{attribute.name.upper()!r}] must be a text of at most "
            f"{_LONGEST_PREFIX} characters without spaces, as keys of caches are"
        )


def _function(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not (value is None or isinstance(value, str) or callable(value)):
        raise ImproperlyConfigured(
            f"POLYSYNC[{attribute.name.upper()!r}] must be a function or its dotted "
            f"path, not {type(value).__name__}"
        )


#: A key of Memcached has 250 characters at most; 50 of them are ours, and what is left
#: is for Django's ``KEY_PREFIX``.
_LONGEST_PREFIX = 100

_positive = _number(lambda n: n > 0, "a number above 0")
_count = _number(lambda n: n >= 0, "a whole number, 0 or more", whole=True)
_text_or_none = _is((str, type(None)), "a text")
_truth = _is(bool, "True or False")


@attrs.frozen(kw_only=True)
class Settings:
    """``POLYSYNC`` with its defaults; the keys there are these names in capitals."""

    #: The secret of the connector. Default: ``$POLYSYNC_CONNECTOR_TOKEN``.
    connector_token: str | None = attrs.field(
        default=None, repr=False, validator=_text_or_none
    )
    #: The host that the connector is registered for. Default: ``$POLYSYNC_HOST``.
    host: str | None = attrs.field(default=None, validator=_text_or_none)
    #: ``"us-1"``, …, a base URL, or ``"sandbox"``. Default: ``$POLYSYNC_ENVIRONMENT``.
    environment: str | None = attrs.field(default=None, validator=_text_or_none)
    #: Further options of `polysync.Client`, in lower case.
    client: Mapping[str, Any] = attrs.field(
        factory=dict, repr=False, validator=_is(Mapping, "a dictionary")
    )
    #: Alias of the cache that keeps the conversations. All processes must share it.
    cache: str = attrs.field(default="default", validator=_is(str, "an alias"))
    #: Begins the key of each entry in that cache.
    cache_prefix: str = attrs.field(default="polysync:", validator=_prefix)
    #: Seconds that a conversation without a message is kept there.
    cache_timeout: float = attrs.field(
        default=600, validator=_number(lambda n: n >= 1, "a number, 1 or more")
    )
    #: Fernet keys that encrypt what is kept there (extra ``encryption``).
    encryption_keys: list[str | bytes] | tuple[str | bytes, ...] = attrs.field(
        default=(), repr=False, validator=_is((list, tuple), "a list of keys")
    )
    #: The key in ``request.session`` that holds the conversation's random name.
    session_key: str = attrs.field(
        default="polysync_conversation", validator=_is(str, "a text")
    )
    #: How many live clients a process keeps.
    max_clients: int = attrs.field(default=100, validator=_count)
    #: Seconds without use after which a process lets a client go.
    idle_timeout: float = attrs.field(default=60, validator=_positive)
    #: How many streams may wait in a process at once. Each occupies one of its
    #: threads, so leave some for the other requests; those beyond it get what is
    #: there, and ask again after a second.
    max_streams: int = attrs.field(default=16, validator=_count)
    #: Seconds after which a stream ends and the browser comes back for the next; 25
    #: at most.
    stream_seconds: float = attrs.field(
        default=25,
        validator=_number(lambda n: 0 < n <= 25, "a number above 0, 25 at most"),
    )
    #: Seconds of silence on a stream after which a comment is sent, by which a server
    #: notices that the browser has gone; 15 at most.
    keep_alive: float = attrs.field(
        default=10,
        validator=_number(lambda n: 0 < n <= 15, "a number above 0, 15 at most"),
    )
    #: Seconds that any other request may take in all.
    request_timeout: float = attrs.field(default=20, validator=_positive)
    #: Largest body of a request, in bytes.
    max_body: int = attrs.field(
        default=MAX_BODY,
        validator=_number(lambda n: n > 0, "a whole number above 0", whole=True),
    )
    #: Whether only users who are logged in may chat.
    login_required: bool = attrs.field(default=False, validator=_truth)
    #: Whether ``chat.js`` and ``chat.css`` come from ``django.contrib.staticfiles``
    #: instead of a view of this app.
    staticfiles: bool = attrs.field(default=False, validator=_truth)
    #: Dotted path of a function of the request that returns what the agent may know
    #: of the user, to be signed.
    context: str | Callable[..., Any] | None = attrs.field(
        default=None, validator=_function
    )
    #: Names the secret that signs it.
    context_key_id: str | None = attrs.field(default=None, validator=_text_or_none)
    #: The secret that signs it.
    context_secret: str | None = attrs.field(
        default=None, repr=False, validator=_text_or_none
    )

    def client_options(self) -> dict[str, Any]:
        """Return the options for `polysync.Client`."""
        named = {
            "connector_token": self.connector_token or None,
            "host": self.host or None,
            "environment": self.environment or None,
        }
        return {**self.client, **{k: v for k, v in named.items() if v is not None}}


def read(given: Any) -> Settings:
    """Merge a dictionary with the defaults.

    Raises:
        ImproperlyConfigured: It is no dictionary, a key is unknown or a value is none
            of its kind. No value is quoted, as it may be a secret.
    """
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(
            f"POLYSYNC must be a dictionary, not {type(given).__name__}"
        )
    names = {field.name.upper(): field.name for field in attrs.fields(Settings)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in names:
            near = difflib.get_close_matches(str(key).upper(), names, 1)
            advice = f": did you mean {near[0]!r}?" if near else ""
            raise ImproperlyConfigured(f"POLYSYNC has no key {key!r}{advice}")
        values[names[key]] = value
    return Settings(**values)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings in force.

    Raises:
        ImproperlyConfigured: As `read`.
    """
    return read(getattr(django_settings, "POLYSYNC", {}))


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "POLYSYNC":
        settings.cache_clear()


# Tests change settings: override_settings().
setting_changed.connect(_forget, dispatch_uid="polysync.conf")
