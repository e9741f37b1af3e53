"""The site's own app: it listens to what is said."""

from __future__ import annotations

from django.apps import AppConfig


class BistroConfig(AppConfig):
    """The app ``bistro``."""

    name = "bistro"

    def ready(self) -> None:
        """Connect the receivers."""
        from . import receivers  # noqa: F401
