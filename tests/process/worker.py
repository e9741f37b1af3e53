"""What a worker process runs; a module of its own, as spawn imports it anew."""

from __future__ import annotations

import multiprocessing
from typing import Any

from polysync import Client, SessionState
from polysync.sandbox import EchoAgent, Sandbox


def work(state: SessionState, results: Any) -> None:
    """Take up the conversation and say something in it."""
    client = Client.resume(state)
    client.connect()
    reply = client.ask("hello from the worker")
    results.put((reply.text, client.detach()))


def main(method: str) -> None:
    """Detach a conversation, have a worker go on with it, take it back."""
    context = multiprocessing.get_context(method)
    with Sandbox(EchoAgent()) as sandbox:
        client = Client(
            sandbox.connector_token, sandbox.host, environment=sandbox.base_url
        ).connect()
        results = context.Queue()
        worker = context.Process(target=work, args=(client.detach(), results))
        worker.start()
        text, state = results.get(timeout=30)
        worker.join(30)
        results.close()
        results.join_thread()
        with Client.resume(state) as client:
            print(f"{text}|{client.ask('hello again').text}")
