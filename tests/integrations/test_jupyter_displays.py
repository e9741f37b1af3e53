"""What notebooks show of messages, transcripts, clients and statistics."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.formatters import DisplayFormatter

from polysync import Client
from polysync.events import LiveAgentMessage, PolyAgentMessage, UserMessage
from polysync.integrations.jupyter import (
    load_ipython_extension,
    unload_ipython_extension,
)
from polysync.integrations.jupyter.displays import (
    LONGEST,
    client_html,
    message_html,
    statistics_html,
    transcript_html,
)
from polysync.models import (
    Attachment,
    ChatCallAction,
    ResponseSuggestion,
    Transcript,
    TranscriptItem,
)
from polysync.sandbox import Sandbox
from polysync.sessions.pool import PoolStatistics
from polysync.statistics import ClientStatistics

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def body(html: str) -> str:
    """Return a piece of HTML without its style sheet."""
    return html.partition("</style>")[2]


def executable(html: str) -> bool:
    """Tell whether there is anything in it that runs or loads."""
    return bool(
        re.search(r"<(script|img|iframe|link|object)|<[^>]+\son\w+=|javascript:", html)
    )


@pytest.fixture
def shell() -> Any:
    """As much of an IPython shell as displaying takes."""
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    load_ipython_extension(shell)
    return shell


# Messages.


def test_markdown_is_rendered() -> None:
    """An agent's Markdown becomes HTML."""
    html = body(message_html(PolyAgentMessage(text="**Bold** and\n\n- a list")))
    assert "<strong>Bold</strong>" in html
    assert "<li>a list</li>" in html


@pytest.mark.parametrize(
    "message",
    [
        PolyAgentMessage(text=ATTACK, agent_name=ATTACK),
        LiveAgentMessage(text=ATTACK, agent_name=ATTACK),
        UserMessage(text=ATTACK),
        TranscriptItem("system", ATTACK, level=ATTACK),
        TranscriptItem(f'x" onclick="{ATTACK}', ATTACK, delivery=ATTACK),
        PolyAgentMessage(
            text="Look",
            attachments=(
                Attachment(ATTACK, ATTACK, "javascript:alert(1)", None, ATTACK),
                Attachment(ATTACK, content_url='https://e.com/"onclick="alert(1)'),
            ),
            response_suggestions=(ResponseSuggestion(ATTACK),),
            chat_call_actions=(ChatCallAction(ATTACK, ATTACK),),
        ),
    ],
)
def test_nothing_foreign_runs(message: Any) -> None:
    """Whatever stands in any field is shown and does nothing."""
    html = body(message_html(message))
    assert not executable(html)


def test_nothing_is_fetched() -> None:
    """A picture is a link to it: showing a message tells nobody."""
    html = message_html(
        PolyAgentMessage(
            text="![menu](https://example.com/a.png)",
            avatar_url="https://example.com/avatar.png",
            attachments=(
                Attachment("Menu", "https://example.com/b.png", "https://e.com/menu"),
            ),
        )
    )
    assert "<img" not in html
    assert "url(" not in html
    assert "avatar.png" not in html
    assert 'href="https://e.com/menu"' in html


def test_extras_are_shown() -> None:
    """Suggestions, numbers to call, and what is missing, are told."""
    html = body(
        message_html(
            PolyAgentMessage(
                text="Half a",
                complete=False,
                agent_name="Ann",
                timestamp=datetime.now(timezone.utc),
                response_suggestions=(ResponseSuggestion("Yes"),),
                chat_call_actions=(ChatCallAction("Call us", "+44 20 7946 0000"),),
            )
        )
    )
    assert "Ann" in html
    assert "incomplete" in html
    assert "<span>Yes</span>" in html
    assert 'href="tel:+442079460000"' in html


def test_undelivered_message_says_so() -> None:
    """A message of the user that has not arrived is marked."""
    assert "not delivered" in message_html(
        TranscriptItem("user", "Hello", delivery="failed")
    )
    assert "sending" in message_html(
        TranscriptItem("user", "Hello", delivery="pending")
    )


# Transcripts, clients, statistics.


def test_transcript_is_shown_in_order() -> None:
    """All messages are there, those of the user on their side."""
    html = body(
        transcript_html(
            Transcript(
                [TranscriptItem("agent", "First"), TranscriptItem("user", "2nd")]
            )
        )
    )
    assert html.index("First") < html.index("2nd")
    assert 'class="line user"' in html


def test_long_transcript_is_cut() -> None:
    """Of a very long conversation the latest messages are shown."""
    items = [TranscriptItem("user", f"message {n};") for n in range(LONGEST + 1500)]
    html = transcript_html(items)
    assert "1,500 earlier messages" in html
    assert "message 1499;" not in html
    assert "message 1500;" in html


def test_empty_transcript_says_so() -> None:
    """A conversation without a word is not an empty output."""
    assert "Nothing has been said" in transcript_html(Transcript())


def test_client_is_shown_without_secrets(
    polysync_client: Client, polysync_sandbox: Sandbox
) -> None:
    """The facts are there, and no token."""
    html = client_html(polysync_client)
    assert "open" in html
    assert polysync_client.session_id in html
    assert "Harbour Table" in html
    assert polysync_sandbox.connector_token not in html
    assert polysync_client.state.access_token not in html


@pytest.mark.parametrize("end", [False, True])
def test_client_is_shown_at_any_time(
    polysync_new_client: Callable[..., Client], end: bool
) -> None:
    """Before it is connected and after the end there is something to show too."""
    client = polysync_new_client()
    if end:
        client.connect(wait="session").end_session()
    html = client_html(client)
    assert ("user end" if end else "idle") in html


def test_statistics_are_a_table() -> None:
    """Each counter has its line."""
    html = statistics_html(PoolStatistics(live=3, in_use=1))
    assert "<th>Live</th><td>3</td>" in html
    assert "<th>In use</th><td>1</td>" in html


def test_client_statistics_have_times(polysync_client: Client) -> None:
    """Latencies are shown in milliseconds."""
    polysync_client.ask("Hello?")
    html = statistics_html(polysync_client.statistics)
    assert "<th>Connections</th><td>1</td>" in html
    assert re.search(r"<th>Echo</th><td>1 times, mean [\d.]+ ms", html)


# In IPython.


@pytest.mark.parametrize(
    "value",
    [
        PolyAgentMessage(text="hi"),
        LiveAgentMessage(text="hi"),
        UserMessage(text="hi"),
        Transcript([TranscriptItem("user", "hi")]),
        TranscriptItem("user", "hi"),
        PoolStatistics(),
        ClientStatistics(),
    ],
)
def test_values_have_html_and_text(shell: Any, value: Any) -> None:
    """IPython gets HTML, with plain text for where it cannot be shown."""
    data, _ = shell.display_formatter.format(value)
    assert set(data) == {"text/plain", "text/html"}
    if isinstance(value, Transcript):
        assert data["text/plain"] == "User: hi"


def test_displays_can_be_unloaded(shell: Any) -> None:
    """``%unload_ext`` leaves the plain text; a second time it does nothing."""
    unload_ipython_extension(shell)
    unload_ipython_extension(shell)
    data, _ = shell.display_formatter.format(Transcript())
    assert data == {"text/plain": "Transcript([])"}


@pytest.mark.subprocess
def test_core_knows_nothing_of_notebooks() -> None:
    """`import polysync` loads neither ipywidgets nor IPython."""
    code = (
        "import sys, polysync; "
        "sys.exit(bool({'IPython', 'ipywidgets', 'nh3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
