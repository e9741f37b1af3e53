"""Settings: checked at once, each with a sentence that names what is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from polysync import Client, ConfigurationError
from polysync.options import ENVIRONMENTS, PLATFORMS, Options, checked_timeout

CREDENTIALS: dict[str, Any] = {"connector_token": "token", "host": "https://a.example"}


def options(**settings: Any) -> Options:
    """Return the options of a client with these settings."""
    return Client(**{**CREDENTIALS, **settings})._options


# Test environments.


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "ap-2", "us-gov-1", "x2-10"])
def test_clusters_go_by_name(name: str) -> None:
    assert options(environment=name).base_url == f"https://messaging.{name}.poly.ai"


def test_the_default_is_the_united_states() -> None:
    assert options().base_url == "https://messaging.us-1.poly.ai"


@pytest.mark.parametrize(
    ("given", "base_url"),
    [
        ("https://messaging.poly.ai", "https://messaging.poly.ai"),
        ("https://messaging.poly.ai/", "https://messaging.poly.ai"),
        ("wss://messaging.poly.ai", "https://messaging.poly.ai"),
        ("https://example.com:8443/a/b/", "https://example.com:8443/a/b"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("ws://127.8.8.8", "http://127.8.8.8"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://api.localhost", "http://api.localhost"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_base_urls(given: str, base_url: str) -> None:
    assert options(environment=given).base_url == base_url


@pytest.mark.parametrize(
    "environment",
    [
        "http://messaging.poly.ai",
        "ws://messaging.poly.ai",
        "http://192.168.0.1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://0.0.0.0",
        "http://[::2]",
    ],
)
def test_clear_text_to_another_machine_is_refused(environment: str) -> None:
    with pytest.raises(ConfigurationError, match="clear text.*loopback"):
        options(environment=environment)


@pytest.mark.parametrize(
    "environment", ["us", "production", "US-1", "us_1", "ftp://a", "://a", "us-1 ", "a"]
)
def test_unknown_environments_are_refused(environment: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown environment.*us-1.*sandbox"):
        options(environment=environment)


@pytest.mark.parametrize(
    "environment",
    [
        "https://",
        "https://user:password@example.com",
        "https://example.com?a=b",
        "https://example.com#a",
        "https://example.com:port",
        "https://[::1",
        "https://example.com:99999",
    ],
)
def test_odd_addresses_are_refused(environment: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        options(environment=environment)
    assert "password" not in str(caught.value).replace("no user, password", "")


def test_the_sandbox_needs_no_credentials() -> None:
    chosen = Client(environment="sandbox")._options
    assert chosen.sandboxed
    assert chosen.base_url is None


def test_the_sandbox_does_not_take_the_credentials_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POLYSYNC_CONNECTOR_TOKEN", "real")
    monkeypatch.setenv("POLYSYNC_HOST", "https://real.example")
    chosen = Client(environment="sandbox")._options.for_sandbox("theirs", "host")
    assert (chosen.connector_token, chosen.host) == ("theirs", "host")


# Test variables.


def test_settings_come_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYSYNC_CONNECTOR_TOKEN", "from-variable")
    monkeypatch.setenv("POLYSYNC_HOST", "https://variable.example")
    monkeypatch.setenv("POLYSYNC_ENVIRONMENT", "uk-1")
    chosen = Client()._options
    assert chosen.connector_token == "from-variable"
    assert chosen.host == "https://variable.example"
    assert chosen.base_url == "https://messaging.uk-1.poly.ai"


def test_arguments_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYSYNC_CONNECTOR_TOKEN", "from-variable")
    monkeypatch.setenv("POLYSYNC_HOST", "https://variable.example")
    monkeypatch.setenv("POLYSYNC_ENVIRONMENT", "uk-1")
    chosen = options(environment="euw-1")
    assert chosen.connector_token == "token"
    assert chosen.host == "https://a.example"
    assert chosen.base_url == "https://messaging.euw-1.poly.ai"


def test_empty_variables_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECTOR_TOKEN", "HOST", "ENVIRONMENT"):
        monkeypatch.setenv(f"POLYSYNC_{name}", "")
    assert options().base_url == "https://messaging.us-1.poly.ai"
    with pytest.raises(ConfigurationError, match="no connector token"):
        Client()


# Test credentials.


def test_a_missing_token_is_named_with_all_the_ways_to_give_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client(host="https://a.example")
    for way in ("connector_token=", "POLYSYNC_CONNECTOR_TOKEN", "'sandbox'"):
        assert way in str(caught.value)


def test_a_missing_host_is_named_with_all_the_ways_to_give_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client("token")
    for way in ("host=", "POLYSYNC_HOST"):
        assert way in str(caught.value)


def test_an_access_token_stands_for_both() -> None:
    assert Client(access_token="a.b.c")._options.access_token == "a.b.c"


@pytest.mark.parametrize("value", ["a b", "a\n", "\ta", "tökën", "a\x00", "\u2028"])
@pytest.mark.parametrize("name", ["connector_token", "access_token", "host"])
def test_values_that_would_spoil_a_header_are_refused_and_not_shown(
    name: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        options(**{name: value})
    assert value not in str(caught.value)
    assert name.replace("_", " ").split()[0] in str(caught.value)


def test_values_of_another_type_are_refused() -> None:
    for name in ("connector_token", "access_token", "host"):
        with pytest.raises(ConfigurationError):
            options(**{name: 1})


def test_repr_shows_no_secret() -> None:
    shown = repr(
        options(
            connector_token="secret-1",
            access_token="secret-2",
            proxy="http://user:secret-3@proxy.example:8080",
        )
    )
    assert "secret" not in shown


# Test the rest.


@pytest.mark.parametrize("platform", PLATFORMS)
def test_platforms(platform: str) -> None:
    assert options(platform=platform).platform == platform


def test_an_unknown_platform_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="platform must be one of web, ios"):
        options(platform="desktop")


@pytest.mark.parametrize(
    "name",
    [
        "timeout",
        "reply_timeout",
        "heartbeat_interval",
        "heartbeat_timeout",
        "reconnect_delay",
        "reconnect_delay_max",
    ],
)
@pytest.mark.parametrize("value", [-1, math.nan, "1", True, -math.inf, object()])
def test_times_are_numbers_of_0_or_more(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        options(**{name: value})


def test_an_echo_is_given_some_time() -> None:
    with pytest.raises(ConfigurationError, match="heartbeat_interval=0"):
        options(heartbeat_timeout=0)


@pytest.mark.parametrize("name", ["max_reconnects", "history_limit"])
@pytest.mark.parametrize("value", [-1, 1.5, "1", True, math.inf])
def test_counts_are_whole_numbers_of_0_or_more(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        options(**{name: value})


def test_defaults_are_those_of_the_manual() -> None:
    chosen = options()
    assert chosen.streaming is True
    assert chosen.platform == "web"
    assert chosen.timeout == 30.0
    assert chosen.reply_timeout == 60.0
    assert chosen.heartbeat_interval is None
    assert chosen.heartbeat_timeout == 10.0
    assert chosen.max_reconnects is None
    assert chosen.reconnect_delay == 1.0
    assert chosen.reconnect_delay_max == 30.0
    assert chosen.resend is True
    assert chosen.history_limit is None


def test_settings_beyond_the_credentials_are_keywords_only() -> None:
    with pytest.raises(TypeError):
        Client("token", "host", "access")  # type: ignore[misc]


# Test checked_timeout.


def test_none_is_the_default() -> None:
    assert checked_timeout(None, "timeout", 7.0) == 7.0


@pytest.mark.parametrize("value", [0, 0.0, 1, 2.5])
def test_numbers_are_seconds(value: float) -> None:
    checked = checked_timeout(value, "timeout", 7.0)
    assert checked == value
    assert isinstance(checked, float)


@pytest.mark.parametrize("value", [math.inf, 10**400, 1e308])
def test_for_ever_is_a_number_that_clocks_can_take(value: float) -> None:
    assert checked_timeout(value, "timeout", 7.0) == 1e8
