"""A small Django site with the chat on it, for the tests."""

from __future__ import annotations

import json
import os
import tempfile

SECRET_KEY = "only-for-tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.integrations.django.site"
INSTALLED_APPS = ["django.contrib.sessions", "polysync.integrations.django"]
MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "tests.integrations.django.site.someone",
]
CSRF_FAILURE_VIEW = "polysync.integrations.django.csrf.csrf_failure"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": ["django.template.context_processors.request"]
        },
    }
]
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
# Servers that the tests start get these from their environment.
CHANGES = json.loads(os.environ.get("TEST_SETTINGS", "{}"))
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("TEST_DATABASE")
        or os.path.join(tempfile.gettempdir(), f"polysync-tests-{os.getpid()}.sqlite3"),
    }
}
CACHES = {
    "default": CHANGES.pop("CACHE", None)
    or {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
POLYSYNC = CHANGES
LOGGING_CONFIG = None
