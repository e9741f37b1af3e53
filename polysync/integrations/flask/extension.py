"""`PolySync`, the extension: settings, the pool of an application, embedding."""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from flask import (
    Flask,
    current_app,
    has_request_context,
    request,
    session,
    url_for,
)
from markupsafe import Markup

from polysync.client import Client
from polysync.errors import ConfigurationError
from polysync.integrations.flask import guard
from polysync.integrations.flask.assets import asset
from polysync.integrations.flask.blueprint import Hook, make_blueprint
from polysync.integrations.flask.commands import commands
from polysync.integrations.web.embed import script_tag
from polysync.integrations.web.service import ChatService
from polysync.integrations.web.stores import store_from
from polysync.sessions.memory import MemoryCache
from polysync.sessions.pool import ClientPool

__all__ = ["PolySync"]

logger = logging.getLogger(__name__)

#: The one thing in the visitor's session.
SESSION_KEY = "polysync"

DEFAULTS: Mapping[str, Any] = {
    "POLYSYNC_CONNECTOR_TOKEN": None,
    "POLYSYNC_HOST": None,
    "POLYSYNC_ENVIRONMENT": None,
    "POLYSYNC_CLIENT_OPTIONS": {},
    "POLYSYNC_STORE": "memory",
    "POLYSYNC_STORE_PREFIX": "polysync:",
    "POLYSYNC_STORE_TIMEOUT": 600,
    "POLYSYNC_ENCRYPTION_KEYS": (),
    "POLYSYNC_MAX_CLIENTS": 100,
    "POLYSYNC_IDLE_TIMEOUT": 60.0,
    "POLYSYNC_TIMEOUT": 20.0,
    "POLYSYNC_STREAM_SECONDS": 25.0,
    "POLYSYNC_KEEP_ALIVE": 10.0,
    "POLYSYNC_MAX_STREAMS": 16,
    "POLYSYNC_URL_PREFIX": "/chat",
    "POLYSYNC_TRUSTED_ORIGINS": (),
    "POLYSYNC_CONTEXT_KEY_ID": None,
    "POLYSYNC_CONTEXT_SECRET": None,
    "POLYSYNC_TITLE": "Chat",
    "POLYSYNC_THEME": None,
    "POLYSYNC_LANGUAGE": None,
}

#: What a setting has to be, by its default.
_KINDS: Mapping[type, tuple[Any, str]] = {
    type(None): ((str, type(None)), "a text"),
    str: ((str, type(None)), "a text"),
    int: ((int, float), "a number"),
    float: ((int, float), "a number"),
    tuple: ((list, tuple, set, frozenset), "a list"),
    dict: (Mapping, "a dictionary"),
}

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]+")

Context = Mapping[str, "str | int | float | bool | None"]


class PolySync:
    """Puts conversations with an agent into a Flask application.

    Args:
        app: The application; or call `init_app` later, for as many as you like.
        context: Called in a request for signed context; returns what the agent is to
            know of the user who is logged in, or ``None`` if nobody is. With it, there
            is a view ``polysync.context``.
        hook: Called before each request to the chat's views, with the view's name
            (``"messages"``, …); a place for logins and rate limits. It may ``abort()``
            or return an answer.
        configure: Called with each new client and its key before it connects; a place
            to register callbacks, which run outside of any Flask context.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        context: Callable[[], Context | None] | None = None,
        hook: Hook | None = None,
        configure: Callable[[Client, str], object] | None = None,
    ) -> None:
        self._context = context
        self._hook = hook
        self._configure = configure
        if app is not None:
            self.init_app(app)

    def __repr__(self) -> str:
        return "<polysync.integrations.flask.PolySync>"

    def init_app(self, app: Flask) -> None:
        """Add the chat to an application. Starts nothing and connects to nothing.

        Registers the blueprint ``polysync``, the template global ``polysync_chat`` and
        the commands ``flask polysync``. Settings, in ``app.config``:

        ``POLYSYNC_CONNECTOR_TOKEN``, ``POLYSYNC_HOST``, ``POLYSYNC_ENVIRONMENT``
            As for `polysync.Client`; by default the environment variables of these
            names.
        ``POLYSYNC_CLIENT_OPTIONS``
            A dict with further options of `polysync.Client`.
        ``POLYSYNC_STORE``
            Where conversations are kept between requests: ``"memory"`` (the default,
            for one process), a ``redis://`` or ``file://`` address, a cache, or a
            `polysync.CacheStore`.
        ``POLYSYNC_STORE_PREFIX``, ``POLYSYNC_STORE_TIMEOUT``
            Begins the names in the store (``"polysync:"``); seconds that a
            conversation is kept there after it was last used (600).
        ``POLYSYNC_ENCRYPTION_KEYS``
            Fernet keys to encrypt what is stored; the first encrypts, all decrypt.
        ``POLYSYNC_MAX_CLIENTS``, ``POLYSYNC_IDLE_TIMEOUT``
            How many live clients a process keeps (100), and for how many seconds
            without use (60).
        ``POLYSYNC_TIMEOUT``
            Seconds that a request may take (20).
        ``POLYSYNC_STREAM_SECONDS``, ``POLYSYNC_KEEP_ALIVE``
            Length of one response of the event stream (25 s, the most), and after how
            much silence a comment is sent (10 s).
        ``POLYSYNC_MAX_STREAMS``
            How many streams may wait in a process at once (16). Each occupies a
            thread: choose fewer than there are. Those beyond it poll.
        ``POLYSYNC_URL_PREFIX``
            Where the views are (``"/chat"``); read by `init_app`.
        ``POLYSYNC_TRUSTED_ORIGINS``
            Other origins (``"https://www.example.com"``) whose pages may post.
        ``POLYSYNC_CONTEXT_KEY_ID``, ``POLYSYNC_CONTEXT_SECRET``
            What signs context, see `polysync.sign_context`.
        ``POLYSYNC_TITLE``, ``POLYSYNC_THEME``, ``POLYSYNC_LANGUAGE``
            Defaults for the page and `script`.

        Raises:
            RuntimeError: The application has the extension already.
        """
        if "polysync" in app.extensions:
            raise RuntimeError("this application has a PolySync already")
        for name, value in DEFAULTS.items():
            app.config.setdefault(name, value)
        app.extensions["polysync"] = State(app.config, self._configure)
        app.register_blueprint(
            make_blueprint(self, hook=self._hook, context=self._context),
            url_prefix=app.config["POLYSYNC_URL_PREFIX"],
        )
        app.add_template_global(self.script, "polysync_chat")
        app.cli.add_command(commands())

    @property
    def service(self) -> ChatService:
        """The current application's chat; made when it is first asked for.

        Raises:
            ConfigurationError: A setting is missing or wrong.
            RuntimeError: There is no current application, or it lacks the extension.
        """
        state: State | None = current_app.extensions.get("polysync")
        if state is None:
            raise RuntimeError("this application has no PolySync: call init_app(app)")
        return state.service()

    @property
    def pool(self) -> ClientPool:
        """The current application's conversations."""
        return self.service.pool

    def key(self, *, create: bool = True) -> str | None:
        """Return the name of the visitor's conversation, from the session.

        It is random, and all that the session cookie holds of the chat. Whoever logs
        out should lose it: ``session.pop("polysync", None)``, or ``session.clear()``.

        Args:
            create: Whether to make one if there is none.
        """
        key = session.get(SESSION_KEY)
        if isinstance(key, str) and key:
            return key
        if not create:
            return None
        made = secrets.token_urlsafe(24)
        session[SESSION_KEY] = made
        return made

    def conversation(self, **how: Any) -> AbstractContextManager[Client]:
        """Give the client of the visitor's conversation, for a view of your own.

        ::

            with polysync.conversation() as client:
                reply = client.ask(request.form["text"])

        Arguments and errors are those of `polysync.ClientPool.conversation`, except for
        the key, which is the visitor's.
        """
        key = self.key()
        if key is None:
            raise AssertionError("a key was created")
        return self.pool.conversation(key, **how)

    def csrf_token(self) -> str:
        """Return what the page's posts carry in ``X-CSRFToken``.

        It is Flask-WTF's where that is in use, and belongs to the visitor's session.
        """
        key = self.key()
        if key is None:
            raise AssertionError("a key was created")
        return guard.csrf_token(key)

    def script(self, **options: Any) -> Markup:
        """Return the ``<script>`` that puts the chat into a page.

        In templates this is ``{{ polysync_chat() }}``. It sets the visitor's session
        cookie. Nothing in it needs ``unsafe-inline``.

        Args:
            **options: As for `polysync.integrations.web.embed.script_tag`: ``target``,
                ``title``, ``theme``, ``language``, ``strings``, ``nonce``.
        """
        config = current_app.config
        settings = {
            "stylesheet": self.asset_url("chat.css"),
            "title": config["POLYSYNC_TITLE"],
            "theme": config["POLYSYNC_THEME"],
            "language": config["POLYSYNC_LANGUAGE"],
            "csrf_token": self.csrf_token(),
            **options,
        }
        prefix = url_for("polysync.page").rstrip("/")
        return Markup(script_tag(self.asset_url("chat.js"), prefix, **settings))

    @staticmethod
    def asset_url(name: str) -> str:
        """Return the address of a file of the widget, which changes with the file."""
        return url_for("polysync.asset", name=name, v=asset(name).version)


class State:
    """What an application has of the extension; it is in ``app.extensions``."""

    def __init__(
        self,
        config: Mapping[str, Any],
        configure: Callable[[Client, str], object] | None,
    ) -> None:
        self._config = config
        self._configure = configure
        self._lock = threading.Lock()
        self._service: ChatService | None = None

    def service(self) -> ChatService:
        """Return the application's chat; made when it is first asked for."""
        with self._lock:
            if self._service is None:
                self._service = self._make()
                self._warn(self._service)
            return self._service

    @staticmethod
    def _warn(service: ChatService) -> None:
        alone = isinstance(service.pool.store.cache, MemoryCache)
        if alone and has_request_context() and request.environ["wsgi.multiprocess"]:
            logger.error(
                "the server has several processes, and POLYSYNC_STORE is the memory of "
                "this one: conversations will be lost; use Redis or files"
            )

    def _make(self) -> ChatService:
        unknown = {
            name
            for name in self._config
            if name.startswith("POLYSYNC_") and name not in DEFAULTS
        }
        if unknown:
            raise ConfigurationError(f"unknown settings: {', '.join(sorted(unknown))}")
        _check(self._config)
        setting = {
            name.removeprefix("POLYSYNC_").lower(): self._config[name]
            for name in DEFAULTS
        }
        store = store_from(
            setting["store"],
            prefix=setting["store_prefix"],
            timeout=setting["store_timeout"],
            encryption_keys=setting["encryption_keys"],
        )
        given = ("connector_token", "host", "environment")
        options = {name: setting[name] for name in given}
        try:
            pool = ClientPool(
                store,
                max_clients=setting["max_clients"],
                idle_timeout=setting["idle_timeout"],
                # The greeting comes by the stream: nobody need wait for it.
                wait="session",
                configure=self._configure,
                **{**options, **setting["client_options"]},
            )
        except TypeError as error:  # an option that there is not
            raise ConfigurationError(f"POLYSYNC_CLIENT_OPTIONS: {error}") from error
        return ChatService(
            pool,
            timeout=setting["timeout"],
            stream_seconds=setting["stream_seconds"],
            keep_alive=setting["keep_alive"],
            max_streams=setting["max_streams"],
        )


def _check(config: Mapping[str, Any]) -> None:
    """Check the kinds of the settings; one from the environment may be of any.

    No value is quoted but origins, as it may be a secret under the wrong name.
    """
    for name, default in DEFAULTS.items():
        kind, words = _KINDS[type(default)]
        value = config[name]
        odd = isinstance(value, bool) or not isinstance(value, kind)
        if odd and name != "POLYSYNC_STORE":
            raise ConfigurationError(
                f"{name} must be {words}, not {type(value).__name__}"
            )
    for origin in config["POLYSYNC_TRUSTED_ORIGINS"]:
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                f"POLYSYNC_TRUSTED_ORIGINS has {origin!r}, which is no origin such as "
                "'https://www.example.com' (without a slash at the end)"
            )
