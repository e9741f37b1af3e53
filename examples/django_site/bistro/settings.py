"""Settings of the site. It has no database: visitors' sessions are in the cache."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent
# All processes need the same one; run.py makes one up.
SECRET_KEY = os.environ.get("BISTRO_SECRET_KEY", "not a secret: for development only")
DEBUG = os.environ.get("BISTRO_DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = ["bistro.apps.BistroConfig", "polysync.integrations.django"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "bistro.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": ["django.template.context_processors.request"]
        },
    }
]
TIME_ZONE = "UTC"
USE_TZ = True

# The conversations, and here the sessions too: a cache that all workers share.
CACHES: dict[str, dict[str, Any]]
if os.environ.get("REDIS_URL"):
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": os.environ["REDIS_URL"],
        }
    }
else:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": os.environ.get("BISTRO_CACHE")
            or os.path.join(tempfile.gettempdir(), "bistro-cache"),
            # By default 300: beyond that, Django would remove conversations.
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        }
    }
SESSION_ENGINE = "django.contrib.sessions.backends.cache"

POLYSYNC = {
    # Without these, the chat talks to the sandbox, which needs no account.
    "CONNECTOR_TOKEN": os.environ.get("POLYSYNC_CONNECTOR_TOKEN"),
    "HOST": os.environ.get("POLYSYNC_HOST"),
    "ENVIRONMENT": os.environ.get("POLYSYNC_ENVIRONMENT", "sandbox"),
    "CACHE": "default",
    # Below the number of a worker's threads, so that some are left for the posts.
    "MAX_STREAMS": 6,
}
# Answers the chat's page in JSON, and all else as Django does.
CSRF_FAILURE_VIEW = "polysync.integrations.django.csrf.csrf_failure"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "[%(process)d] %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "bistro": {"handlers": ["console"], "level": "INFO"},
        "polysync": {"handlers": ["console"], "level": "WARNING"},
    },
}
