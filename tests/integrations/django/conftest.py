"""A configured Django, and visitors of a site on a sandbox."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.cache import caches
from django.db import connections
from django.test import Client as DjangoClient
from django.test import override_settings

from polysync.integrations.django import conversations

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integrations.django.settings")
django.setup()


class Visitor:
    """A browser, as far as it talks to the chat's views."""

    def __init__(self, **options: Any) -> None:
        self.client = DjangoClient(enforce_csrf_checks=True, **options)

    @property
    def token(self) -> str:
        if "csrftoken" not in self.client.cookies:
            assert self.client.get("/chat/").status_code == 200
        return str(self.client.cookies["csrftoken"].value)

    def post(self, path: str, value: Any = None, **extra: Any) -> Any:
        """Post JSON, or bytes as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value or {})
        kind = extra.setdefault("content_type", "application/json")
        extra["CONTENT_TYPE"] = kind  # which the client omits with an empty body
        headers = {"X-CSRFToken": self.token, **extra.pop("headers", {})}
        return self.client.post(f"/chat/{path}", body, headers=headers, **extra)

    def start(self, **body: Any) -> Any:
        response = self.post("start", body)
        assert response.status_code == 200, response.content
        return response.json()

    def say(self, text: str, client_id: str | None = None) -> Any:
        body = {"text": text, **({"client_id": client_id} if client_id else {})}
        return self.post("messages", body)

    def stream(self, after: str | None = None, **extra: Any) -> Any:
        query = f"?after={after}" if after else ""
        return self.client.get(f"/chat/events{query}", **extra)

    def news(self, after: str | None = None) -> list[dict[str, Any]]:
        """Read what a stream has now."""
        response = self.stream(after)
        assert response.status_code == 200
        return read_events(b"".join(response.streaming_content))


def read_events(stream: bytes) -> list[dict[str, Any]]:
    """Return the page events of a stream."""
    return [
        json.loads(line.removeprefix("data: "))
        for line in stream.decode().splitlines()
        if line.startswith("data: ")
    ]


@pytest.fixture
def polysync_settings(sandbox: Any) -> dict[str, Any]:
    """The setting POLYSYNC of the test's site; a test module may override this."""
    return {
        "CONNECTOR_TOKEN": sandbox.connector_token,
        "HOST": sandbox.host,
        "ENVIRONMENT": sandbox.base_url,
    }


@pytest.fixture
def site(
    polysync_settings: dict[str, Any], tmp_path: Path, django_database: None
) -> Iterator[None]:
    """The site on a sandbox of its own, with a cache of files."""
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    with override_settings(
        POLYSYNC=polysync_settings,
        CACHES={"default": {"BACKEND": backend, "LOCATION": str(tmp_path / "cache")}},
    ):
        yield
        conversations.close()
        caches.close_all()
        connections.close_all()


@pytest.fixture
def django_database() -> Iterator[None]:
    """An empty database, removed at the end."""
    name = Path(str(connections["default"].settings_dict["NAME"]))
    yield
    connections.close_all()
    name.unlink(missing_ok=True)


@pytest.fixture
def new_visitor(site: None) -> Callable[..., Visitor]:
    """Make visitors with a browser of their own each."""
    return Visitor


@pytest.fixture
def visitor(new_visitor: Callable[..., Visitor]) -> Visitor:
    """A visitor of the site."""
    return new_visitor()
