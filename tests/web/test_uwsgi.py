"""The Flask application and a bare one behind uWSGI, with the manual's settings."""

from __future__ import annotations

import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from polysync.sandbox import Sandbox
from tests.web.conftest import ROOT, TIMEOUT, Server, Visitor
from tests.web.test_flask_servers import converse

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

EXAMPLES = ROOT / "docs" / "examples"


class Uwsgi(Server):
    """uWSGI as the manual has it, as soon as it listens."""

    def __init__(self, environment: dict[str, str], *options: str) -> None:
        # No script of pyuwsgi's: what is imported is what this Python has installed.
        super().__init__(
            [sys.executable, "-c", "import pyuwsgi; pyuwsgi.run()"]
            + ["--ini", str(EXAMPLES / "uwsgi.ini")]
            + ["--http-socket", "127.0.0.1:0", *options],
            environment,
        )
        self.port = int(self.wait_for(r"bound to TCP address 127.0.0.1:(\d+)")[1])
        self.wait_for(r"WSGI app 0 .* ready")


@pytest.mark.parametrize("options", [[], ["--lazy-apps"]], ids=["early", "lazy"])
def test_conversations(
    servers: list[Server],
    environment: dict[str, str],
    echo: Sandbox,
    options: list[str],
) -> None:
    """Two browsers stream their conversations from two workers."""
    server = Uwsgi(environment, "--module", "tests.web.flask_site:app", *options)
    servers.append(server)
    visitor = Visitor(server.port).open()
    visitor.start()
    status, stream = visitor.request("GET", f"/chat/events?after={visitor.cursor}")
    assert status == 200
    assert "retry: 1000" not in stream  # which would be a short answer
    assert visitor.post("end")[0] == 200
    visitors = [Visitor(server.port) for _ in range(2)]

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(converse, visitors))

    said = [len(session.user_messages) for session in echo.sessions.values()]
    assert sorted(said) == [0, 3, 3]


def test_client_within_a_request(servers: list[Server], echo: Sandbox) -> None:
    """The application of the manual answers by a client of its own."""
    server = Uwsgi(
        {
            "POLYSYNC_ENVIRONMENT": echo.base_url,
            "POLYSYNC_CONNECTOR_TOKEN": echo.connector_token,
            "POLYSYNC_HOST": echo.host,
            "PYTHONPATH": str(ROOT),
        },
        *["--wsgi-file", str(EXAMPLES / "wsgi_app.py"), "--callable", "app"],
    )
    servers.append(server)

    address = f"http://127.0.0.1:{server.port}/?question=Open%3F"
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
        assert answer.read() == b"Open?"
    assert echo.session.ended
