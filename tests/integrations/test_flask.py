"""The Flask extension, in this process: requests go in, answers come out."""

from __future__ import annotations

import gc
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, render_template_string, session
from flask.testing import FlaskClient

from polysync import CacheStore
from polysync.errors import ConfigurationError
from polysync.integrations.flask import PolySync
from polysync.integrations.flask.extension import DEFAULTS
from polysync.integrations.web.bodies import MAX_BODY
from polysync.sandbox import EchoAgent, Handoff, Reply, Sandbox, Turn
from polysync.sessions.memory import MemoryCache

THREADS = {"wsgi.multithread": True}


def make_app(sandbox: Sandbox, **config: Any) -> Flask:
    """Return an application with the sandbox's settings; PolySync comes after."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="for-tests",
        POLYSYNC_CONNECTOR_TOKEN=sandbox.connector_token,
        POLYSYNC_HOST=sandbox.host,
        POLYSYNC_ENVIRONMENT=sandbox.base_url,
        POLYSYNC_STREAM_SECONDS=0.2,
        POLYSYNC_KEEP_ALIVE=0.05,
        **config,
    )
    return app


class Visitor:
    """A browser with a cookie jar and the CSRF token of the page that it has open."""

    def __init__(self, app: Flask) -> None:
        self.http: FlaskClient = app.test_client()
        self.token = ""

    def open(self) -> str:
        page = self.http.get("/chat/").get_data(as_text=True)
        found = re.search(r'data-csrf-token="([^"]+)"', page)
        assert found is not None
        self.token = found[1]
        return page

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        headers = {"X-CSRFToken": self.token, **options.pop("headers", {})}
        data = body if isinstance(body, bytes) else json.dumps(body or {})
        options.setdefault("content_type", "application/json")
        return self.http.post(f"/chat/{path}", data=data, headers=headers, **options)

    def events(self, after: str | None = None, **headers: str) -> list[dict[str, Any]]:
        """Read one response of the stream to its end."""
        query = {} if after is None else {"after": after}
        response = self.http.get(
            "/chat/events",
            query_string=query,
            headers=headers,
            environ_overrides=THREADS,
        )
        assert response.status_code == 200
        lines = response.get_data(as_text=True).splitlines()
        return [
            json.loads(line.removeprefix("data: "))
            for line in lines
            if line.startswith("data: ")
        ]

    def said(self) -> list[str]:
        """What the conversation holds, as start gives it."""
        events = self.post("start").get_json()["events"]
        return [e.get("text") or e.get("html") for e in events if e["type"] != "joined"]


@pytest.fixture
def echo() -> Iterator[Sandbox]:
    with Sandbox(EchoAgent) as sandbox:
        yield sandbox


@pytest.fixture
def app(echo: Sandbox) -> Iterator[Flask]:
    app = make_app(echo)
    PolySync(app)
    yield app
    close(app)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    visitor = Visitor(app)
    visitor.open()
    return visitor


def close(app: Flask) -> None:
    app.extensions["polysync"].service().pool.close()


def error_of(response: Any) -> tuple[int, str]:
    assert response.content_type == "application/json"
    return response.status_code, response.get_json()["error"]["code"]


# --- a conversation ----------------------------------------------------------------


def test_a_visitor_talks_to_the_agent(visitor: Visitor) -> None:
    """Start, send, and the stream brings greeting, echo and reply."""
    started = visitor.post("start")
    assert started.status_code == 200
    assert started.headers["Cache-Control"] == "no-store"
    sent = visitor.post("messages", {"text": "Hi", "client_id": "m1"})
    assert sent.status_code == 200
    assert sent.get_json()["event"]["client_id"] == "m1"
    events = visitor.events()
    assert [e["text"] for e in events if e["type"] == "user"] == ["Hi"]
    messages = [e["html"] for e in events if e["type"] == "message"]
    assert messages == ["<p>Hello! How can I help you today?</p>", "<p>Hi</p>"]


def test_a_message_posted_again_is_not_sent_twice(
    visitor: Visitor, echo: Sandbox
) -> None:
    """The page posts again what it had no answer for, under the same name."""
    visitor.post("start")
    first = visitor.post("messages", {"text": "Hi", "client_id": "m1"}).get_json()
    again = visitor.post("messages", {"text": "Hi", "client_id": "m1"}).get_json()
    assert first == again
    assert len(echo.session.user_messages) == 1


def test_the_stream_goes_on_where_the_browser_stopped(visitor: Visitor) -> None:
    """What came before Last-Event-ID is not sent again."""
    visitor.post("start")
    visitor.post("messages", {"text": "one"})
    seen = visitor.events()
    assert seen
    cursor = visitor.post("start").get_json()["cursor"]
    visitor.post("messages", {"text": "two"})
    news = visitor.events(after="nonsense", **{"Last-Event-ID": cursor})
    assert [e["text"] for e in news if e["type"] == "user"] == ["two"]


def test_the_stream_is_as_browsers_and_proxies_want_it(visitor: Visitor) -> None:
    """Ids, keep-alive comments, no buffering, no caching; it ends by itself."""
    visitor.post("start")
    response = visitor.http.get("/chat/events", environ_overrides=THREADS)
    assert response.mimetype == "text/event-stream"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert "no-cache" in response.headers["Cache-Control"]
    text = response.get_data(as_text=True)
    assert text.startswith("retry: ")
    assert re.search(r"^id: [0-9a-f]+-\d+$", text, re.M)
    assert "\n: keep-alive\n" in text
    assert '"type":"again"' in text.splitlines()[-2]


def test_a_server_without_threads_is_not_kept_waiting(echo: Sandbox) -> None:
    """There the stream gives what is there and asks the browser to come again."""
    app = make_app(echo)
    app.config["POLYSYNC_STREAM_SECONDS"] = 25.0
    PolySync(app)
    visitor = Visitor(app)
    visitor.open()
    visitor.post("start")
    text = visitor.http.get("/chat/events").get_data(as_text=True)
    close(app)
    assert "retry: 1000" in text
    assert "keep-alive" not in text


def test_streams_beyond_the_bound_poll_instead_of_waiting(echo: Sandbox) -> None:
    """They cannot take the threads that the other requests need."""
    app = make_app(echo, POLYSYNC_MAX_STREAMS=1)
    app.config["POLYSYNC_STREAM_SECONDS"] = 25.0
    PolySync(app)
    visitor = Visitor(app)
    visitor.open()
    visitor.post("start")
    with visitor.http.get("/chat/events", environ_overrides=THREADS) as waiting:
        assert b"retry: 300" in next(iter(waiting.response))
        polled = visitor.http.get("/chat/events", environ_overrides=THREADS)
        assert "retry: 1000" in polled.get_data(as_text=True)
        assert app.extensions["polysync"].service().streams == 1
    assert app.extensions["polysync"].service().streams == 0
    close(app)


def test_suggestions_are_the_last_messages(echo: Sandbox) -> None:
    """They are gone once the visitor has spoken."""

    def agent(turn: Turn) -> Any:
        return Reply("Tea or coffee?", suggestions=["Tea", "Coffee"])

    with Sandbox(agent) as sandbox:
        app = make_app(sandbox)
        PolySync(app)
        visitor = Visitor(app)
        visitor.open()
        visitor.post("start")
        visitor.post("messages", {"text": "Hi"})
        visitor.events()
        got = visitor.http.get("/chat/suggestions").get_json()
        close(app)
    assert got == {"suggestions": ["Tea", "Coffee"]}


def test_typing_is_passed_on(visitor: Visitor, echo: Sandbox) -> None:
    """A live agent sees that the visitor types."""
    visitor.post("start")
    assert visitor.post("typing", {"state": "started"}).status_code == 204
    echo.wait_until(lambda: echo.session.user_is_typing)


def test_the_end_is_told_and_stays_the_end(visitor: Visitor) -> None:
    """After it: start shows it, the stream says 204, messages 409, new begins anew."""
    visitor.post("start")
    cursor = visitor.post("start").get_json()["cursor"]
    ended = visitor.post("end")
    assert ended.get_json()["event"]["reason"] == "user_end"
    assert visitor.events(after=cursor)[-1]["type"] == "end"
    again = visitor.post("start").get_json()
    assert again["ended"]
    gone = visitor.http.get("/chat/events", query_string={"after": again["cursor"]})
    assert gone.status_code == 204
    assert error_of(visitor.post("messages", {"text": "Hi"})) == (409, "ended")
    new = visitor.post("start", {"new": True}).get_json()
    assert not new["ended"]
    assert new["conversation"] != again["conversation"]


def test_a_page_with_an_old_conversation_is_reset(visitor: Visitor) -> None:
    """It may not skip the beginning of the new one."""
    old = visitor.post("start").get_json()
    visitor.post("start", {"new": True})
    assert [e["type"] for e in visitor.events(after=old["cursor"])] == ["reset"]


def test_a_handoff_to_a_person_comes_by_the_stream() -> None:
    """From the request over the queue to the live agent."""

    def agent(turn: Turn) -> Any:
        return Handoff()

    with Sandbox(agent) as sandbox:
        app = make_app(sandbox)
        PolySync(app)
        visitor = Visitor(app)
        visitor.open()
        visitor.post("start")
        visitor.post("messages", {"text": "A person, please"})
        sandbox.wait_until(lambda: sandbox.session.live_agent)
        events = visitor.events()
        close(app)
    roles = [e.get("role") for e in events if e["type"] == "joined"]
    assert roles == ["agent", "live_agent"]


# --- what goes wrong ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "options", "expected"),
    [
        (b"", {}, (400, "bad_json")),
        (b"not json", {}, (400, "bad_json")),
        (b"[1]", {}, (400, "bad_json")),
        (b"{}", {"content_type": "text/plain"}, (415, "bad_type")),
        (b"{}", {"content_type": None}, (415, "bad_type")),
        (b'{"text": "  "}', {}, (422, "empty")),
        (b'{"text": 1}', {}, (422, "bad_value")),
        (b'{"text": "x", "client_id": "\\u0000"}', {}, (422, "bad_value")),
        (b"x" * (MAX_BODY + 1), {}, (413, "too_large")),
        (b'{"text": "%s"}' % (b"x" * (MAX_BODY - 20)), {}, (413, "too_large")),
    ],
)
def test_bad_bodies_are_refused(
    visitor: Visitor, body: bytes, options: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Each with its status, as JSON; the conversation goes on."""
    visitor.post("start")
    assert error_of(visitor.post("messages", body, **options)) == expected
    assert visitor.post("messages", {"text": "Hi"}).status_code == 200


def test_without_a_conversation_there_is_nothing(visitor: Visitor) -> None:
    """A key alone is none: 410, and an end that is none."""
    assert error_of(visitor.post("messages", {"text": "Hi"})) == (410, "not_found")
    assert error_of(visitor.post("typing", {"state": "stopped"})) == (410, "not_found")
    assert error_of(visitor.http.get("/chat/events")) == (410, "not_found")
    assert error_of(visitor.http.get("/chat/suggestions")) == (410, "not_found")
    assert visitor.post("end").status_code == 204


def test_an_expired_session_is_begun_anew(visitor: Visitor, echo: Sandbox) -> None:
    """The server has forgotten it: 410, and start begins another."""
    before = visitor.post("start").get_json()
    echo.session.forget()
    response = visitor.post("messages", {"text": "Hi"})
    assert response.status_code in (409, 410)
    after = visitor.post("start").get_json()
    if after["ended"]:
        after = visitor.post("start", {"new": True}).get_json()
    assert after["conversation"] != before["conversation"]


def test_nobody_reaches_another_visitors_conversation(
    app: Flask, visitor: Visitor
) -> None:
    """Neither by another cookie nor by knowing its cursor; a forged cookie is none."""
    visitor.post("start")
    visitor.post("messages", {"text": "secret"})
    cursor = visitor.post("start").get_json()["cursor"]
    other = Visitor(app)
    other.open()
    other.post("start")
    assert "secret" not in str(other.said())
    assert [e["type"] for e in other.events(after=cursor)] == ["reset"]
    forger = Visitor(app)
    cookie = visitor.http.get_cookie("session")
    assert cookie is not None
    forger.http.set_cookie("session", cookie.value[:-3] + "abc")
    forger.token = visitor.token
    assert error_of(forger.post("messages", {"text": "Hi"})) == (403, "csrf")
    assert error_of(forger.http.get("/chat/events")) == (410, "not_found")


@pytest.mark.parametrize("path", ["start", "messages", "typing", "end"])
def test_posts_need_the_sessions_token(app: Flask, visitor: Visitor, path: str) -> None:
    """None, a wrong one and another visitor's are refused."""
    other = Visitor(app)
    other.open()
    for token in ("", "wrong", "gr\xfc\xdf", other.token):
        visitor.token = token
        assert error_of(visitor.post(path)) == (403, "csrf")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://proxy.example"}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "https://localhost"}, 200),
        ({"Origin": "http://trusted.example", "Sec-Fetch-Site": "cross-site"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost:8080"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
    ],
)
def test_posts_come_from_the_sites_own_pages(
    echo: Sandbox, headers: dict[str, str], status: int
) -> None:
    """Other sites are refused even with a token; trusted ones are not."""
    app = make_app(echo, POLYSYNC_TRUSTED_ORIGINS=["http://trusted.example"])
    PolySync(app)
    visitor = Visitor(app)
    visitor.open()
    assert visitor.post("start", headers=headers).status_code == status
    close(app)


def test_a_store_that_is_down_is_said_so(echo: Sandbox) -> None:
    """503 in JSON, without the reason."""

    class Broken(MemoryCache):
        def get(self, key: str) -> object:
            raise ConnectionError("redis://:password@host")

    app = make_app(echo, POLYSYNC_STORE=Broken())
    PolySync(app)
    visitor = Visitor(app)
    visitor.open()
    response = visitor.post("start")
    assert error_of(response) == (503, "unavailable")
    assert "password" not in response.get_data(as_text=True)


def test_wrong_credentials_are_not_the_visitors_business(echo: Sandbox) -> None:
    """502 in JSON; the log has the reason."""
    app = make_app(echo)
    app.config["POLYSYNC_CONNECTOR_TOKEN"] = "wrong"
    PolySync(app)
    visitor = Visitor(app)
    visitor.open()
    assert error_of(visitor.post("start")) == (502, "upstream")


def test_a_conversation_that_is_busy_says_when_to_come_again(
    echo: Sandbox, visitor: Visitor, app: Flask
) -> None:
    """429 with Retry-After once the wait for the turn has taken the whole timeout."""
    visitor.post("start")
    with visitor.http.session_transaction() as cookie:
        key = cookie["polysync"]
    service = app.extensions["polysync"].service()
    service._timeout = 0.05
    with service.pool.store.lock(key):
        response = visitor.post("messages", {"text": "Hi"})
    assert error_of(response) == (429, "busy")
    assert response.headers["Retry-After"]


def test_a_browser_that_leaves_gives_its_place_back(
    echo: Sandbox, visitor: Visitor, app: Flask
) -> None:
    """Closing the response ends the stream, read or not."""
    visitor.post("start")
    service = app.extensions["polysync"].service()
    for read in (0, 1):
        response = visitor.http.get("/chat/events", environ_overrides=THREADS)
        for _ in range(read):
            next(iter(response.response))
        assert service.streams == 1
        response.close()
        assert service.streams == 0
        assert service.pool.statistics.in_use == 0


def test_closing_a_stream_wakes_who_waits_for_it(visitor: Visitor, app: Flask) -> None:
    """A step that waits ends at once, so that a thread can be given back."""
    visitor.post("start")
    with visitor.http.session_transaction() as cookie:
        key = cookie["polysync"]
    service = app.extensions["polysync"].service()
    service._stream_seconds, service._keep_alive = 25.0, 15.0
    stream = service.events(key, None)
    greeted = threading.Event()

    def read() -> None:
        for block in stream:
            if b"today" in block:
                greeted.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert greeted.wait(10)
    stream.close()
    reader.join(5)
    assert not reader.is_alive()


def test_a_stream_that_is_dropped_is_given_back(visitor: Visitor, app: Flask) -> None:
    """By the next request: a server ought to close it, and not all of them do."""
    visitor.post("start")
    with visitor.http.session_transaction() as cookie:
        key = cookie["polysync"]
    service = app.extensions["polysync"].service()
    stream = service.events(key, None)
    next(stream)
    assert service.streams == 1
    del stream
    gc.collect()
    visitor.post("start")
    assert service.streams == 0
    assert service.pool.statistics.in_use == 0


# --- the page ----------------------------------------------------------------------


def test_the_page_has_a_strict_policy(visitor: Visitor) -> None:
    """No inline script or style, nothing from elsewhere but pictures."""
    response = visitor.http.get("/chat/")
    policy = response.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    page = response.get_data(as_text=True)
    assert "<style" not in page
    assert " style=" not in page
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)


def test_the_files_are_given_out_for_ever_by_their_version(visitor: Visitor) -> None:
    """With the version in the address they may be kept; without it they are asked."""
    page = visitor.open()
    for address in re.findall(r'="(/chat/widget/[^"]+)"', page):
        response = visitor.http.get(address.replace("&amp;", "&"))
        assert response.status_code == 200
        assert "immutable" in response.headers["Cache-Control"]
    plain = visitor.http.get("/chat/widget/chat.js")
    assert plain.headers["Cache-Control"] == "no-cache"
    etag = {"If-None-Match": plain.headers["ETag"]}
    assert visitor.http.get("/chat/widget/chat.js", headers=etag).status_code == 304
    assert visitor.http.get("/chat/widget/other.js").status_code == 404


def test_the_sites_own_files_stay_where_they_are(echo: Sandbox, tmp_path: Path) -> None:
    """Also where the chat is all that the site has, without a prefix."""
    (tmp_path / "site.css").write_text("body {}")
    app = make_app(echo, POLYSYNC_URL_PREFIX="/")
    app.static_folder = str(tmp_path)
    PolySync(app)
    http = app.test_client()
    with http.get("/static/site.css") as response:
        assert response.data == b"body {}"
    page = http.get("/").get_data(as_text=True)
    for address in re.findall(r'="(/[^"]+\.(?:js|css)[^"]*)"', page):
        assert http.get(address).status_code == 200


def test_no_secret_reaches_the_browser(visitor: Visitor, echo: Sandbox) -> None:
    """Neither token nor session id, in pages, cookies, answers or the stream."""
    texts = [visitor.open(), visitor.post("start").get_data(as_text=True)]
    texts.append(visitor.post("messages", {"text": "Hi"}).get_data(as_text=True))
    texts.append(str(visitor.events()))
    with visitor.http.session_transaction() as cookie:
        assert set(cookie) == {"polysync"}
        texts.append(str(dict(cookie)))
    secrets = [echo.connector_token, echo.session.id, echo.session._access_token]
    for text in texts:
        assert not any(secret in text for secret in secrets)


def test_any_template_can_have_the_chat(app: Flask) -> None:
    """By a global, with its options escaped."""

    @app.get("/")
    def home() -> str:
        return render_template_string("{{ polysync_chat(title='\"<&', nonce='n') }}")

    page = app.test_client().get("/").get_data(as_text=True)
    assert page.startswith("<script src=")
    assert 'data-title="&quot;&lt;&amp;"' in page
    assert 'data-prefix="/chat"' in page
    assert 'nonce="n"' in page


def test_a_view_of_ones_own_talks_in_the_same_conversation(
    echo: Sandbox,
) -> None:
    """`PolySync.conversation` is the visitor's."""
    app = make_app(echo)
    polysync = PolySync(app)

    @app.post("/ask")
    def ask() -> str:
        with polysync.conversation() as client:
            return client.ask("from a view").text

    visitor = Visitor(app)
    visitor.open()
    assert visitor.http.post("/ask").get_data(as_text=True) == "from a view"
    assert "from a view" in visitor.said()
    close(app)


# --- the extension -----------------------------------------------------------------


def test_nothing_begins_before_it_is_used(echo: Sandbox) -> None:
    """No pool, no thread, no connection after init_app and a look at the page."""
    app = make_app(echo)
    PolySync(app)
    Visitor(app).open()
    assert app.extensions["polysync"]._service is None
    assert not echo.received.requests


def test_one_extension_serves_several_applications(echo: Sandbox) -> None:
    """Each has a pool of its own; twice in one application is a mistake."""
    polysync = PolySync()
    apps = [make_app(echo), make_app(echo, POLYSYNC_URL_PREFIX="/help/bot")]
    for app in apps:
        polysync.init_app(app)
    with apps[0].app_context():
        first = polysync.pool
    with apps[1].app_context():
        assert polysync.pool is not first
    assert b'data-prefix="/help/bot"' in apps[1].test_client().get("/help/bot/").data
    with pytest.raises(RuntimeError, match="already"):
        polysync.init_app(apps[0])
    assert "PolySync" in repr(polysync)


def test_every_setting_is_documented() -> None:
    """In the docstring of `PolySync.init_app`, where people look for it."""
    documented = PolySync.init_app.__doc__ or ""
    assert [name for name in DEFAULTS if f"``{name}``" not in documented] == []


def test_a_misspelt_setting_is_named(echo: Sandbox) -> None:
    """Rather than silently left at its default."""
    app = make_app(echo, POLYSYNC_TIMOUT=3)
    polysync = PolySync(app)
    with app.app_context(), pytest.raises(ConfigurationError, match="TIMOUT"):
        _ = polysync.service


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TIMEOUT", "20s", "must be a number, not str"),
        ("MAX_STREAMS", True, "must be a number, not bool"),
        ("STORE_TIMEOUT", None, "must be a number, not NoneType"),
        ("CONTEXT_KEY_ID", 7, "must be a text, not int"),
        ("TITLE", 7, "must be a text, not int"),
        ("CLIENT_OPTIONS", "{}", "must be a dictionary, not str"),
        ("CLIENT_OPTIONS", {"timout": 3}, "timout"),
        ("ENCRYPTION_KEYS", "secret", "must be a list, not str"),
        ("TRUSTED_ORIGINS", "https://www.example.com", "must be a list, not str"),
        ("TRUSTED_ORIGINS", ["https://www.example.com/"], "no origin"),
        ("TRUSTED_ORIGINS", [None], "no origin"),
    ],
)
def test_a_wrong_setting_is_named(
    echo: Sandbox, name: str, value: object, words: str
) -> None:
    """To whoever starts the site, and by the command; never with a secret."""
    app = make_app(echo)
    app.config[f"POLYSYNC_{name}"] = value
    polysync = PolySync(app)
    with app.app_context(), pytest.raises(ConfigurationError, match=words) as caught:
        _ = polysync.service
    assert f"POLYSYNC_{name}" in str(caught.value)
    assert "secret" not in str(caught.value)
    result = app.test_cli_runner().invoke(args=["polysync", "check", "--offline"])
    assert result.exit_code == 1
    assert f"Error: settings: POLYSYNC_{name}" in result.output


def test_half_an_origin_is_none_that_is_trusted(echo: Sandbox) -> None:
    """One text for a list of origins does not let in what is part of it."""
    app = make_app(echo, POLYSYNC_TRUSTED_ORIGINS="https://www.example.com")
    PolySync(app)
    visitor = Visitor(app)
    visitor.open()
    headers = {"Origin": "https://www.example.co"}
    assert visitor.post("start", headers=headers).status_code >= 400
    assert not echo.received.requests


def test_an_application_without_the_extension_says_so() -> None:
    """Rather than a bare KeyError."""
    polysync = PolySync()
    with Flask(__name__).app_context(), pytest.raises(RuntimeError, match="init_app"):
        _ = polysync.pool


def test_several_processes_need_a_shared_store(
    echo: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A store in one process's memory is an error in the log where there are more."""
    app = make_app(echo)
    PolySync(app)
    visitor = Visitor(app)
    visitor.open()
    visitor.post("start", environ_overrides={"wsgi.multiprocess": True})
    close(app)
    assert "several processes" in caplog.text


def test_the_hook_may_refuse(echo: Sandbox) -> None:
    """It is told the view's name; abort() becomes JSON."""
    names: list[str] = []

    def hook(view: str) -> None:
        names.append(view)
        if view == "messages":
            abort(429)
        if view == "typing":
            abort(401)

    app = make_app(echo)
    PolySync(app, hook=hook)
    visitor = Visitor(app)
    visitor.open()
    visitor.post("start")
    assert error_of(visitor.post("messages", {"text": "Hi"})) == (429, "busy")
    assert error_of(visitor.post("typing")) == (401, "login")
    assert names == ["page", "start", "messages", "typing"]
    close(app)


def test_flask_limiter_can_be_applied(echo: Sandbox) -> None:
    """To one view by its endpoint; its refusal is JSON with Retry-After."""
    limiter_module = pytest.importorskip("flask_limiter")
    app = make_app(echo)
    PolySync(app)
    limiter = limiter_module.Limiter(
        lambda: session.get("polysync", ""),
        app=app,
        storage_uri="memory://",
        headers_enabled=True,
    )
    views = app.view_functions
    views["polysync.messages"] = limiter.limit("1/minute")(views["polysync.messages"])
    visitor = Visitor(app)
    visitor.open()
    visitor.post("start")
    assert visitor.post("messages", {"text": "Hi"}).status_code == 200
    refused = visitor.post("messages", {"text": "Hi"})
    close(app)
    assert error_of(refused) == (429, "busy")
    assert int(refused.headers["Retry-After"]) > 0


def test_flask_wtf_is_used_where_it_is_in_use(echo: Sandbox) -> None:
    """Its tokens are in the page, and are what counts."""
    flask_wtf = pytest.importorskip("flask_wtf")
    app = make_app(echo)
    flask_wtf.CSRFProtect(app)
    PolySync(app)
    visitor = Visitor(app)
    visitor.open()
    assert visitor.post("start").status_code == 200
    visitor.token = "wrong"
    assert error_of(visitor.post("start")) == (403, "csrf")
    visitor.token = ""
    assert error_of(visitor.post("start")) == (403, "csrf")
    close(app)


def test_what_breaks_in_a_view_is_json_too(echo: Sandbox) -> None:
    """A bug in a hook is a 500 with the same kind of body."""

    def hook(view: str) -> None:
        if view == "start":
            raise KeyError("oops")

    app = make_app(echo)
    PolySync(app, hook=hook)
    visitor = Visitor(app)
    visitor.open()
    assert error_of(visitor.post("start")) == (500, "error")


# --- signed context ----------------------------------------------------------------


def test_context_is_signed_for_who_is_logged_in(echo: Sandbox) -> None:
    """The application says what it is, never the browser."""
    import jwt

    user: dict[str, str] = {}
    app = make_app(echo, POLYSYNC_CONTEXT_KEY_ID="k1", POLYSYNC_CONTEXT_SECRET="s" * 32)
    PolySync(app, context=lambda: user or None)
    visitor = Visitor(app)
    visitor.open()
    visitor.post("start")
    assert error_of(visitor.post("context")) == (401, "login")
    user["name"] = "Ada"
    token = visitor.post("context", {"name": "Eve"}).get_json()["token"]
    close(app)
    claims = jwt.decode(
        token,
        "s" * 32,
        algorithms=["HS256"],
        options={"verify_sub": False},
    )
    assert claims["ctx"] == {"name": "Ada"}
    assert claims["sub"] == echo.session.context_id


def test_context_that_cannot_be_signed_is_the_sites_fault(echo: Sandbox) -> None:
    """Without a secret: 500 in JSON, and the log says what is missing."""
    app = make_app(echo)
    PolySync(app, context=lambda: {"name": "Ada"})
    visitor = Visitor(app)
    visitor.open()
    visitor.post("start")
    assert error_of(visitor.post("context")) == (500, "configuration")
    close(app)


# --- the commands ------------------------------------------------------------------


def test_check_says_that_all_is_well(app: Flask) -> None:
    """Settings, store and connection, and what several workers would need."""
    result = app.test_cli_runner().invoke(args=["polysync", "check"])
    assert result.exit_code == 0, result.output
    assert "connection: ok" in result.output
    assert "one process only" in result.output


def test_check_fails_with_a_reason(echo: Sandbox) -> None:
    """Exit code 1, and no secret in what is said."""
    app = make_app(echo, POLYSYNC_STORE=CacheStore(MemoryCache()))
    app.config["POLYSYNC_CONNECTOR_TOKEN"] = "wrong-token"
    PolySync(app)
    result = app.test_cli_runner().invoke(args=["polysync", "check"])
    assert result.exit_code == 1
    assert "connection:" in result.output
    assert "wrong-token" not in result.output
    offline = app.test_cli_runner().invoke(args=["polysync", "check", "--offline"])
    assert offline.exit_code == 0


def test_chat_talks_in_the_terminal(app: Flask) -> None:
    """What is typed is sent; the end of the input ends the conversation."""
    result = app.test_cli_runner().invoke(args=["polysync", "chat"], input="Hi\n")
    assert result.exit_code == 0, result.output
    assert "Hello! How can I help you today?" in result.output
    assert result.output.count("Hi") >= 1
