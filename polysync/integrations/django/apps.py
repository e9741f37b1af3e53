"""The app's configuration. Loading it starts nothing: it registers checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.utils.translation import gettext_lazy

__all__ = ["PolysyncConfig"]


class PolysyncConfig(AppConfig):
    """The app, labelled ``polysync``."""

    name = "polysync.integrations.django"
    label = "polysync"
    verbose_name = gettext_lazy("PolyAI chat")

    def ready(self) -> None:
        """Register the system checks.

        Nothing else: it runs twice under ``runserver``, for every management command,
        and before gunicorn forks.
        """
        from polysync.integrations.django.checks import TAG, check_polysync

        checks.register(check_polysync, TAG)
