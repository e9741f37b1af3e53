"""The Python that stands in the pages themselves runs, too.

What a page takes for granted (a client, a store, a site) is made here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import test_docs_examples
from tests.test_docs_examples import DOCS, ROOT

as_configured = test_docs_examples.as_configured

BLOCK = re.compile(r"^( *)\.\. code-block:: python\n\n((?:\1 +.*\n|\n)+)", re.MULTILINE)


def blocks(page: str) -> list[str]:
    """Return the blocks of Python in a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [textwrap.dedent(found[2]) for found in BLOCK.finditer(text)]


def run(block: str, **names: Any) -> dict[str, Any]:
    exec(compile(block, "<block>", "exec"), names)
    return names


def readme() -> None:
    from polysync import Client, SessionState

    class Cache(dict[str, Any]):
        def set(self, key: str, value: Any, timeout: int) -> None:
            self[key] = value

    three_lines, callbacks, streaming, resuming, test = blocks("README.rst")
    assert "Client(" in three_lines  # the tests run it as a file of the manual
    run(callbacks)
    with Client() as client:
        run(streaming, client=client)
        run(test)["test_agent_answers"](client)
        cache = Cache()
        found = run(resuming, client=client, cache=cache, key="visitor")
    with found["client"] as client:
        assert client.ask("Still there?").text
    assert SessionState.from_json(cache["visitor"]).session_id == client.session_id


def flask() -> None:
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address

    application, limits, view = blocks("docs/howto/flask.rst")
    names = run(application, __name__="app")
    app = names["app"]
    limiter = Limiter(get_remote_address, app=app, storage_uri="memory://")
    run(limits, app=app, limiter=limiter)
    run(view, app=app, polysync=names["polysync"])

    visitor = app.test_client()
    assert visitor.get("/chat/").status_code == 200
    answer = visitor.post("/ask", data={"text": "A table for two?"})
    assert "When would you like to come?" in answer.text
    with app.app_context():
        names["polysync"].pool.close()


def jupyter() -> None:
    from polysync import Client
    from polysync.integrations.jupyter import ChatWidget
    from tests.clients import eventually

    beside, label = blocks("docs/howto/jupyter.rst")
    made: list[ChatWidget] = []

    def chat(**options: Any) -> ChatWidget:
        made.append(ChatWidget(**options))
        return made[-1]

    run(beside, ChatWidget=chat)
    eventually(lambda: all(each.client.greeting for each in made))
    for each in made:
        each.close()
    with Client() as client:
        names = run(label, client=client)
        said = client.ask("A table for two?").text
        eventually(lambda: names["label"].value == said)
    names["label"].close()


def tracing() -> None:
    from polysync import CacheStore
    from polysync.integrations.opentelemetry import instrument
    from polysync.sessions.memory import MemoryCache

    (block,) = blocks("docs/howto/tracing.rst")
    pool = run(block, store=CacheStore(MemoryCache()), instrument=instrument)["pool"]
    with pool.conversation("visitor") as client:
        assert client.ask("A table for two?").text
        assert client._engine.observer is not None
    pool.close()


def performance() -> None:
    from polysync import Client

    (block,) = blocks("docs/topics/performance.rst")
    with Client() as client:
        client.ask("A table for two?")
        assert run(block, client=client)["numbers"].echo.max is not None


# The pages whose blocks run in this process, and those that have a test below.
PAGES: dict[str, Callable[[], None]] = {
    "README.rst": readme,
    "docs/howto/flask.rst": flask,
    "docs/howto/jupyter.rst": jupyter,
    "docs/howto/tracing.rst": tracing,
    "docs/topics/performance.rst": performance,
}
OTHERS = {"docs/howto/django.rst", "docs/howto/testing.rst"}


def test_every_page_is_known() -> None:
    """No page has Python in it that no test here knows."""
    pages = [ROOT / "README.rst", *DOCS.rglob("*.rst")]
    found = {str(page.relative_to(ROOT)) for page in pages}
    assert {page for page in found if blocks(page)} == PAGES.keys() | OTHERS


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:flask_limiter")
def test_blocks_run(
    page: str, as_configured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a page says can be done is done."""
    monkeypatch.setenv("FLASK_SECRET_KEY", "of this test")
    for name, value in as_configured.items():
        monkeypatch.setenv(f"FLASK_{name}", value)
    PAGES[page]()


@pytest.mark.subprocess
def test_recording_becomes_a_test(tmp_path: Path) -> None:
    """The page's test passes with a conversation that the command has recorded."""
    (block,) = blocks("docs/howto/testing.rst")
    (tmp_path / "test_it.py").write_text(block, encoding="utf-8")
    (tmp_path / "recordings").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def python(*arguments: str, **options: Any) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=50,
            **options,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    chat = ["polysync", "chat", "--environment", "sandbox", "--plain"]
    record = ["--record", "recordings/booking.json"]
    python(*chat, *record, input="A table for two?\n")
    plugins = ["-p", "polysync.pytest_plugin"] if not _installed() else []

    assert "1 passed" in python("pytest", "-q", *plugins)


def _installed() -> bool:
    from importlib.metadata import entry_points

    return "polysync" in {point.name for point in entry_points(group="pytest11")}


DJANGO = """
import os, sys
from types import SimpleNamespace

import django
django.setup()
from django.core.management import call_command
from django.test import Client, RequestFactory

import shop.chat
import shop.lines

visitor = Client()
assert visitor.get("/chat/").status_code == 200
assert visitor.post("/chat/start", "{}", "application/json").status_code == 200
request = RequestFactory().get("/")
request.session = visitor.session
shop.chat.order_is_ready(request)
with shop.chat.pool().conversation(shop.chat.conversation_key(request)) as client:
    client.ask("A table for two?")
with shop.lines.arrived:
    came = lambda: "When would you like" in "".join(shop.lines.texts)
    assert shop.lines.arrived.wait_for(came, 20), shop.lines.texts
user = SimpleNamespace(pk=7, profile=SimpleNamespace(tier="gold"))
request.user = user
assert shop.chat.about(request) == {"customer": 7, "tier": "gold"}
call_command("check", "--tag", "polysync")
shop.chat.pool().close()
print("fine")
"""
LINES = """
import threading

arrived, texts = threading.Condition(), []

class Line:
    class objects:
        def create(conversation, text):
            with arrived:
                texts.append(text)
                arrived.notify_all()
"""


@pytest.mark.subprocess
def test_django_site_of_the_page(as_configured: dict[str, str], tmp_path: Path) -> None:
    """A site that is made of the page's blocks holds a conversation."""
    site, caches, signals, view, context = blocks("docs/howto/django.rst")
    caches = caches.replace("/var/cache/shop", str(tmp_path / "cache"))
    _, settings, urls = re.split(r"^# \w+\.py$", site, flags=re.MULTILINE)
    _, about, more_settings = re.split(r"^# [\w/]+\.py$", context, flags=re.MULTILINE)
    shop = tmp_path / "shop"
    shop.mkdir()
    files = SimpleNamespace(
        lines=LINES,
        chat=f"from shop.lines import Line\n{signals}{view}{about}",
        urls=f"from django.urls import include, path\n{urls}"
        "urlpatterns = [each for each in urlpatterns if each is not ...]\n",
        settings=f"import os\n{settings}{caches}{more_settings}"
        'INSTALLED_APPS = ["django.contrib.sessions", *INSTALLED_APPS[1:]]\n'
        'MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]\n'
        'SESSION_ENGINE = "django.contrib.sessions.backends.cache"\n'
        'TEMPLATES = [{"APP_DIRS": True, "OPTIONS": {"context_processors": ['
        '"django.template.context_processors.request"]}, '
        '"BACKEND": "django.template.backends.django.DjangoTemplates"}]\n'
        'SECRET_KEY, ROOT_URLCONF = "of this test", "shop.urls"\n'
        'ALLOWED_HOSTS = ["testserver"]\n',
    )
    for name, text in vars(files).items():
        (shop / f"{name}.py").write_text(text, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-c", DJANGO],
        cwd=tmp_path,
        env={
            **os.environ,
            **as_configured,
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "POLYSYNC_CONTEXT_KEY_ID": "key",
            "POLYSYNC_CONTEXT_SECRET": "secret",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
        },
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("fine\n")
