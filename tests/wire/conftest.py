"""The wire tests that are run twice: in clear, and over TLS."""

from __future__ import annotations

import pytest

from polysync.sandbox import Sandbox
from tests.peers import Authority

TLS = {
    "test_delivery": "tls",
    "test_fault_matrix": pytest.param("tls", marks=pytest.mark.slow),
    "test_reconnect": "tls",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    if module in TLS:
        metafunc.parametrize("way", ["clear", TLS[module]], indirect=True)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who vouches for the sandboxes of this run."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def way(
    request: pytest.FixtureRequest,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Let all sandboxes of a test serve TLS, if it is to run that way."""
    way = getattr(request, "param", "clear")
    if way == "tls":
        monkeypatch.setenv("SSL_CERT_FILE", authority.path)
        defaults = {
            **(Sandbox.__init__.__kwdefaults__ or {}),
            "ssl_context": authority.server(),
        }
        monkeypatch.setattr(Sandbox.__init__, "__kwdefaults__", defaults)
    return str(way)
