"""``manage.py polysync_check``: whether the chat would work, tried out."""

from __future__ import annotations

import secrets
import time
from argparse import ArgumentParser
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from polysync.client import Client
from polysync.errors import PolysyncError
from polysync.integrations.django.cache import SharedCache
from polysync.integrations.django.checks import TAG
from polysync.integrations.django.conf import Settings, settings


class Command(BaseCommand):
    """Runs the system checks, then tries the cache and the server."""

    help = (
        "Checks the setting POLYSYNC, that its cache keeps things, and that the server "
        "takes the credentials and an agent answers. No message is sent to the agent."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--offline",
            action="store_true",
            help="check the settings and the cache only, and begin no conversation",
        )
        parser.add_argument(
            "--timeout",
            type=float,
            default=30.0,
            metavar="S",
            help="seconds to wait for the server (default: %(default)g)",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Run it.

        Raises:
            CommandError: Something does not work; the message says what.
        """
        self._settings()
        chosen = settings()
        self._cache(chosen)
        if not options["offline"]:
            self._server(chosen, options["timeout"])
        self.stdout.write(self.style.SUCCESS("The chat is ready."))

    def _settings(self) -> None:
        found = checks.run_checks(tags=[TAG], include_deployment_checks=True)
        serious = [each for each in found if each.is_serious()]
        for each in found:
            style = self.style.ERROR if each in serious else self.style.WARNING
            self.stderr.write(style(str(each)))
        if serious:
            raise CommandError(f"The settings have {len(serious)} error(s).")
        self.stdout.write(f"Settings: fine, {len(found)} warning(s).")

    def _cache(self, chosen: Settings) -> None:
        # Its own, as others may check at the same time; as long as the store's keys.
        value = secrets.token_hex(20)
        key = f"{chosen.cache_prefix}1:check:{value}"
        try:
            cache = SharedCache(chosen.cache)
            cache.set(key, value, 60)
            kept = cache.get(key) == value and not cache.add(key, "other", 60)
            cache.delete(key)
        except Exception as error:
            # Whatever the backend raises: each has errors of its own.
            raise CommandError(
                f"The cache {chosen.cache!r} does not work: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not kept:
            raise CommandError(f"The cache {chosen.cache!r} does not keep what it gets")
        self.stdout.write(f"Cache {chosen.cache!r}: keeps what it gets.")

    def _server(self, chosen: Settings, timeout: float) -> None:
        started = time.monotonic()
        try:
            with Client(**{**chosen.client_options(), "timeout": timeout}) as client:
                agent = client.agent
                name = (agent.name if agent else None) or "an agent without a name"
        except (PolysyncError, ImproperlyConfigured) as error:
            raise CommandError(
                f"The server: {type(error).__name__}: {error}"
            ) from error
        took = time.monotonic() - started
        self.stdout.write(f"Server: {name} has greeted, after {took:.1f} s.")
