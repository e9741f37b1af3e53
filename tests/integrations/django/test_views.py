"""What the page's requests are answered, through Django's test client."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.test import override_settings
from django.urls import reverse

from polysync.integrations.django import conversations, views
from polysync.integrations.web.bodies import RequestError
from tests.integrations.django.conftest import Visitor, read_events

GREETING = "Hello, this is the Harbour Table. Would you like to book a table?"

NewVisitor = Callable[..., Visitor]


def texts(events: list[dict[str, Any]], kind: str) -> list[str]:
    field = "text" if kind == "user" else "html"
    return [event[field] for event in events if event["type"] == kind]


def error(response: Any) -> tuple[int, str]:
    body = response.json()
    assert set(body) == {"error"}
    assert body["error"]["message"]
    return response.status_code, body["error"]["code"]


# --- a conversation ----------------------------------------------------------------


def test_start_begins_a_conversation(visitor: Visitor) -> None:
    """The first start gives the greeting, and nothing that is secret."""
    snapshot = visitor.start()
    assert texts(snapshot["events"], "message") == [f"<p>{GREETING}</p>"]
    assert not snapshot["ended"]


def test_start_continues_the_conversation(visitor: Visitor) -> None:
    """A page that is loaded again shows the same conversation."""
    first = visitor.start()
    visitor.say("A table for two, please")
    again = visitor.start()
    assert again["conversation"] == first["conversation"]
    assert texts(again["events"], "user") == ["A table for two, please"]


def test_start_anew_leaves_the_former(visitor: Visitor, sandbox: Any) -> None:
    """`new` begins another conversation in the place of the one that there was."""
    first = visitor.start()
    second = visitor.start(new=True)
    assert second["conversation"] != first["conversation"]
    assert visitor.start()["conversation"] == second["conversation"]
    assert len(sandbox.sessions) == 2


def test_message_is_echoed_and_answered(visitor: Visitor, sandbox: Any) -> None:
    """A message comes back with its client_id, and the stream has the answer."""
    cursor = visitor.start()["cursor"]
    response = visitor.say("The menu, please", client_id="abc-1")
    assert response.status_code == 200
    event = response.json()["event"]
    assert (event["type"], event["text"]) == ("user", "The menu, please")
    assert event["client_id"] == "abc-1"

    sandbox.wait_until(lambda: len(sandbox.session.user_messages) >= 1)
    news: list[dict[str, Any]] = []
    while not texts(news, "message"):
        news = visitor.news(cursor)
    assert texts(news, "message") == ["<p>Here is our menu.</p>"]


def test_message_that_is_posted_again_is_sent_once(
    visitor: Visitor, sandbox: Any
) -> None:
    """The same client_id is the same message: the agent hears it once."""
    visitor.start()
    first = visitor.say("Hello?", client_id="abc-1").json()
    second = visitor.say("Hello?", client_id="abc-1").json()
    assert second["event"]["id"] == first["event"]["id"]
    assert [message.text for message in sandbox.session.user_messages] == ["Hello?"]


def test_typing(visitor: Visitor) -> None:
    """The typing indicator is taken, and has no answer."""
    visitor.start()
    assert visitor.post("typing", {"state": "started"}).status_code == 204
    assert visitor.post("typing", {"state": "stopped"}).status_code == 204


def test_end(visitor: Visitor, sandbox: Any) -> None:
    """The visitor ends the conversation, and begins another by the next message."""
    snapshot = visitor.start()
    event = visitor.post("end").json()["event"]
    assert (event["type"], event["reason"]) == ("end", "user_end")
    assert error(visitor.say("Hello?")) in [(409, "ended"), (410, "not_found")]
    assert visitor.start(new=True)["conversation"] != snapshot["conversation"]


def test_end_of_nothing(visitor: Visitor) -> None:
    """To end what does not exist is no mistake."""
    assert visitor.post("end").status_code == 204


def test_suggestions(visitor: Visitor) -> None:
    """What the agent suggests can be asked for."""
    visitor.start()
    response = visitor.client.get("/chat/suggestions")
    assert "See the menu" in response.json()["suggestions"]


def test_stream_is_not_to_be_held_back(visitor: Visitor) -> None:
    """No proxy and no middleware may buffer, compress or keep the stream."""
    visitor.start()
    response = visitor.stream(headers={"Accept-Encoding": "gzip"})
    body = b"".join(response.streaming_content)
    assert response["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response["Content-Encoding"] == "identity"
    assert response["X-Accel-Buffering"] == "no"
    assert "no-cache" in response["Cache-Control"]
    assert texts(read_events(body), "message") == [f"<p>{GREETING}</p>"]


def test_stream_waits_where_the_server_has_threads(
    visitor: Visitor, sandbox: Any
) -> None:
    """With threads to spare the stream stays, and gives what comes as it comes."""
    cursor = visitor.start()["cursor"]
    response = visitor.stream(cursor, **{"wsgi.multithread": True})
    stream = iter(response.streaming_content)
    assert next(stream).startswith(b"retry:")
    sandbox.session.push("SYSTEM_MESSAGE", {"level": "INFO", "message": "Hear, hear"})
    while b"Hear, hear" not in next(stream):
        pass
    response.close()
    assert conversations.service().streams == 0


def test_streams_are_bounded(
    new_visitor: NewVisitor, polysync_settings: dict[str, Any]
) -> None:
    """Beyond the limit a stream gives what is there, and does not take a thread."""
    with override_settings(POLYSYNC={**polysync_settings, "MAX_STREAMS": 1}):
        one, two = new_visitor(), new_visitor()
        one.start()
        two.start()
        waiting = one.stream(**{"wsgi.multithread": True})
        next(iter(waiting.streaming_content))
        at_once = two.stream(**{"wsgi.multithread": True})
        events = read_events(b"".join(at_once.streaming_content))
        assert texts(events, "message") == [f"<p>{GREETING}</p>"]
        waiting.close()


def test_stream_of_an_ended_conversation_ends(visitor: Visitor) -> None:
    """Who has seen the end is told that there is nothing more."""
    visitor.start()
    visitor.post("end")
    cursor = visitor.start()["cursor"]
    assert visitor.stream(cursor).status_code == 204


# --- who may see what --------------------------------------------------------------


def test_visitors_have_conversations_of_their_own(new_visitor: NewVisitor) -> None:
    """Nothing that one visitor says reaches another."""
    one, two = new_visitor(), new_visitor()
    cursor = two.start()["cursor"]
    assert one.start()["conversation"] != two.start()["conversation"]
    one.say("My secret is 12345")
    assert "12345" not in json.dumps([two.news(cursor), two.news(), two.start()])


def test_cursor_of_somebody_else_opens_nothing(new_visitor: NewVisitor) -> None:
    """A stranger's Last-Event-ID is answered with a reset, and with nothing else."""
    one, two = new_visitor(), new_visitor()
    cursor = one.start()["cursor"]
    one.say("My secret is 12345")
    two.start()
    assert [event["type"] for event in two.news(cursor)] == ["reset"]


@pytest.mark.parametrize("path", ["messages", "typing"])
def test_no_conversation(visitor: Visitor, path: str) -> None:
    """Without a conversation there is nothing to say anything to."""
    body = {"text": "Hello?", "state": "started"}
    assert error(visitor.post(path, body)) == (410, "not_found")


@pytest.mark.parametrize("path", ["events", "suggestions"])
def test_no_conversation_to_look_at(visitor: Visitor, path: str) -> None:
    """Looking begins nothing: no conversation, and no session for the visitor."""
    response = visitor.client.get(f"/chat/{path}")
    assert error(response) == (410, "not_found")
    assert "sessionid" not in visitor.client.cookies


def test_conversation_that_has_expired(visitor: Visitor, sandbox: Any) -> None:
    """What the server no longer knows is gone; the visitor can begin another."""
    first = visitor.start()
    conversations.close()
    sandbox.stop()
    sandbox.start()
    assert error(visitor.say("Hello?")) == (410, "not_found")
    assert visitor.start()["conversation"] != first["conversation"]


def test_answers_hold_no_secret(visitor: Visitor, sandbox: Any) -> None:
    """No token and no session id is in a page, an answer, a header or a cookie."""
    snapshot = visitor.start()
    answers = [visitor.client.get("/"), visitor.client.get("/chat/")]
    answers += [visitor.post("start"), visitor.say("Hello?"), visitor.post("end")]
    stream = json.dumps(visitor.news())
    shown = stream + json.dumps(snapshot) + str(visitor.client.cookies)
    shown += "".join(f"{a.headers}{a.content.decode()}" for a in answers)
    session_id = next(iter(sandbox.sessions))
    assert session_id not in shown
    assert sandbox.connector_token not in shown
    assert "eyJ" not in shown


# --- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"", (400, "bad_json")),
        (b"{", (400, "bad_json")),
        (b"[]", (400, "bad_json")),
        (b"\xff\xfe", (400, "bad_json")),
        (b'{"text": "  "}', (422, "empty")),
        (b"{}", (422, "bad_value")),
        (b'{"text": 7}', (422, "bad_value")),
        (b'{"text": "a", "client_id": "\\u0000"}', (422, "bad_value")),
        (b'{"text": "' + b"a" * 200_000 + b'"}', (413, "too_large")),
        (b'{"text": "' + b"a" * 4_000_000 + b'"}', (413, "too_large")),
    ],
    ids=str,
)
def test_bad_body(visitor: Visitor, body: bytes, answer: tuple[int, str]) -> None:
    """A body that is no message is refused, with a word that says why."""
    visitor.start()
    assert error(visitor.post("messages", body)) == answer


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "",
    ],
)
def test_bad_type(visitor: Visitor, kind: str) -> None:
    """What another site's form could post is not taken."""
    visitor.start()
    response = visitor.post("messages", b'{"text": "a"}', content_type=kind)
    assert error(response) == (415, "bad_type")


def test_body_that_is_announced_too_large(visitor: Visitor) -> None:
    """An oversized body is refused before it is read."""
    visitor.start()
    response = visitor.post("messages", {"text": "a"}, CONTENT_LENGTH="99999999999")
    assert error(response) == (413, "too_large")


def test_body_without_a_length() -> None:
    """ASGI servers pass on what is sent in pieces: no more is read than allowed."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/chat/messages",
        "headers": [(b"content-type", b"application/json")],
    }
    body = b'{"text": "Hi"}'
    assert views._body(ASGIRequest(scope, io.BytesIO(body)))[0] == body
    endless = io.BytesIO(b"a" * 4_000_000)
    with pytest.raises(RequestError) as caught:
        views._body(ASGIRequest(scope, endless))
    assert (caught.value.status, caught.value.code) == (413, "too_large")
    assert endless.tell() == views.settings().max_body + 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("get", "start"), ("get", "messages"), ("get", "end"), ("put", "messages")],
)
def test_bad_method(visitor: Visitor, method: str, path: str) -> None:
    """Nothing that changes anything can be got by a link."""
    headers = {"X-CSRFToken": visitor.token}
    response = getattr(visitor.client, method)(f"/chat/{path}", headers=headers)
    assert error(response) == (405, "bad_method")
    assert response["Allow"] == "POST"


# --- forgery -----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["start", "messages", "typing", "end", "context"])
@pytest.mark.parametrize("token", ["", "wrong"])
def test_csrf_token_is_needed(visitor: Visitor, path: str, token: str) -> None:
    """Each post needs the token; without it the page reads why, in JSON."""
    visitor.start()
    response = visitor.post(path, {"text": "a"}, headers={"X-CSRFToken": token})
    assert error(response) == (403, "csrf")


@pytest.mark.parametrize("path", ["start", "messages", "typing", "end", "context"])
def test_csrf_protection_without_the_middleware(visitor: Visitor, path: str) -> None:
    """The views protect themselves on a site that has no such middleware."""
    visitor.start()
    token = visitor.token
    middlewares = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "tests.integrations.django.site.someone",
    ]
    with override_settings(MIDDLEWARE=middlewares):
        fresh = Visitor()
        fresh.client.cookies = visitor.client.cookies
        refused = fresh.post(path, {"text": "a"}, headers={"X-CSRFToken": "wrong"})
        taken = fresh.post(path, {"text": "a"}, headers={"X-CSRFToken": token})
    assert error(refused) == (403, "csrf")
    assert taken.status_code != 403


def test_other_pages_refuse_forgery_as_ever(visitor: Visitor) -> None:
    """The failure view answers the rest of the site in HTML, as Django does."""
    response = visitor.client.post("/")
    assert response.status_code == 403
    assert response["Content-Type"].startswith("text/html")


def test_no_view_is_exempt() -> None:
    """No view opts out of CSRF protection."""
    from polysync.integrations.django.urls import urlpatterns

    assert urlpatterns
    for pattern in urlpatterns:
        assert not getattr(pattern.callback, "csrf_exempt", False)


# --- who is signed in --------------------------------------------------------------


def test_login_required(visitor: Visitor, polysync_settings: dict[str, Any]) -> None:
    """Where it is asked for, only users who are signed in may chat."""
    token = visitor.token
    with override_settings(POLYSYNC={**polysync_settings, "LOGIN_REQUIRED": True}):
        headers = {"X-CSRFToken": token}
        assert error(visitor.post("start", headers=headers)) == (401, "signed_out")
        assert error(visitor.stream()) == (401, "signed_out")
        response = visitor.client.get("/chat/")
        assert response.status_code == 302
        assert response["Location"].startswith("/accounts/login/?next=/chat/")
        visitor.client.get("/sign-in")
        assert visitor.post("start").status_code == 200


def test_conversation_survives_the_login(visitor: Visitor) -> None:
    """Who signs in during a conversation keeps it."""
    before = visitor.start()["conversation"]
    visitor.client.get("/sign-in")
    assert visitor.start()["conversation"] == before


@pytest.fixture
def with_context(polysync_settings: dict[str, Any]) -> dict[str, Any]:
    return {
        **polysync_settings,
        "CONTEXT": "tests.integrations.django.site.about",
        "CONTEXT_KEY_ID": "key-1",
        "CONTEXT_SECRET": "a-secret-that-is-long-enough-for-hs256",
    }


def test_context_is_signed(visitor: Visitor, with_context: dict[str, Any]) -> None:
    """What the site knows of the user is signed for the visitor's conversation."""
    import jwt

    with override_settings(POLYSYNC=with_context):
        visitor.client.get("/sign-in")
        visitor.start()
        response = visitor.post("context", {"name": "root", "tier": "free"})
        assert response.status_code == 200, response.content
        key = conversations.conversation_key(response.wsgi_request)
        with conversations.pool().conversation(str(key)) as client:
            context_id = client.context_id
    token = response.json()["token"]
    secret = with_context["CONTEXT_SECRET"]
    claims = jwt.decode(token, secret, algorithms=["HS256"], subject=context_id)
    assert claims["ctx"] == {"name": "ada", "tier": "gold"}
    assert jwt.get_unverified_header(token)["kid"] == "key-1"
    assert "no-store" in response["Cache-Control"]


def test_context_is_for_users_alone(
    visitor: Visitor, with_context: dict[str, Any]
) -> None:
    """A stranger gets nothing signed."""
    with override_settings(POLYSYNC=with_context):
        visitor.start()
        assert error(visitor.post("context")) == (401, "signed_out")


def test_context_needs_a_conversation(
    visitor: Visitor, with_context: dict[str, Any]
) -> None:
    """There is nothing to sign for."""
    with override_settings(POLYSYNC=with_context):
        visitor.client.get("/sign-in")
        assert error(visitor.post("context")) == (410, "not_found")


def test_context_that_is_not_set(visitor: Visitor) -> None:
    """Without a function that supplies it there is no such thing."""
    visitor.start()
    assert error(visitor.post("context")) == (404, "no_context")


def test_context_that_cannot_be_signed(
    visitor: Visitor, with_context: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The site's mistake is logged, and not shown."""
    settings = {**with_context, "CONTEXT": lambda request: {"nested": {}}}
    with override_settings(POLYSYNC=settings):
        visitor.client.get("/sign-in")
        visitor.start()
        response = visitor.post("context")
    assert error(response) == (500, "misconfigured")
    assert b"nested" not in response.content
    assert "flat" in caplog.text


# --- pages and files ---------------------------------------------------------------


def test_page_sets_the_cookie(visitor: Visitor) -> None:
    """The chat's own page loads the widget and has the CSRF cookie set."""
    response = visitor.client.get(reverse("polysync:chat"))
    page = response.content.decode()
    assert "csrftoken" in response.cookies
    assert 'data-prefix="/chat"' in page
    assert 'data-target="#polysync-chat"' in page
    assert "<style" not in page


@pytest.mark.parametrize("name", ["chat.js", "chat.css", "page.css"])
def test_static_files(visitor: Visitor, name: str) -> None:
    """The files are given out with their version in the address, for ever."""
    from polysync.integrations.django.assets import asset_url

    address = asset_url(name)
    response = visitor.client.get(address)
    assert response.status_code == 200
    assert "immutable" in response["Cache-Control"]
    again = visitor.client.get(address, headers={"If-None-Match": response["ETag"]})
    assert again.status_code == 304
    bare = visitor.client.get(f"/chat/{name}")
    assert "no-cache" in bare["Cache-Control"]


def test_other_files_are_not_given_out(visitor: Visitor) -> None:
    """The view knows three files and no others."""
    assert visitor.client.get("/chat/chat.py").status_code == 404
    assert visitor.client.get("/chat/../settings.py").status_code == 404


# --- when the other side fails -----------------------------------------------------


def test_server_that_is_down(
    visitor: Visitor,
    sandbox: Any,
    polysync_settings: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The page is told to try again; the reason is in the log."""
    sandbox.stop()
    with override_settings(POLYSYNC={**polysync_settings, "REQUEST_TIMEOUT": 0.3}):
        response = visitor.post("start")
    assert response.status_code in (502, 503, 504)
    assert response.json()["error"]["code"] in ("unavailable", "upstream", "timeout")
    assert "a chat request fails" in caplog.text


def test_wrong_token(
    visitor: Visitor,
    polysync_settings: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A refused connector token is the operator's matter: 502, and a log entry."""
    settings = {**polysync_settings, "CONNECTOR_TOKEN": "wrong-token"}
    with override_settings(POLYSYNC=settings):
        response = visitor.post("start")
    assert error(response) == (502, "upstream")
    assert "wrong-token" not in caplog.text + response.content.decode()
