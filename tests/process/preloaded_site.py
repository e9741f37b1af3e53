"""A site that makes what it talks with at import, before gunicorn forks its workers.

``/pool?key=…&text=…`` asks in a conversation of the pool; ``/parent`` uses the client
that the parent process has connected, which is a mistake. Each answer begins with the
worker's process id.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from cachelib import FileSystemCache

from polysync import CacheStore, Client, ClientPool, PolysyncError

pool = ClientPool(CacheStore(FileSystemCache(os.environ["STORE_FOLDER"])))
parents = Client(platform="custom")


def answer(message: Any) -> None:
    """Tell, in the parent's conversation, which process the parent is."""
    if message.text == "who is there?":
        parents.send_message(f"process {os.getpid()}")


parents.on_agent_message(answer)
parents.connect()
# The parent has a live client in the pool too.
with pool.conversation("parent") as client:
    client.ask("from the parent")


def app(
    environ: dict[str, Any], start_response: Callable[[str, list[Any]], object]
) -> list[bytes]:
    asked = parse_qs(environ["QUERY_STRING"])
    try:
        if environ["PATH_INFO"] == "/pool":
            with pool.conversation(asked["key"][0]) as client:
                body = client.ask(asked["text"][0]).text
        else:
            body = parents.ask("from the wrong process").text
    except PolysyncError as error:
        body = f"{type(error).__name__}: {error}"
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{os.getpid()} {body}".encode()]
