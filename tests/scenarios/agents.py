"""Agents for the tests of scripted conversations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from polysync.sandbox import Handoff, Leave, Reply, Turn


class Waiter:
    """Answers at once, each message in a way of its own."""

    blocking = False

    def greeting(self, turn: Turn) -> Reply:
        return Reply(
            "Good evening!", suggestions=["A table", "The menu", "A table now"]
        )

    def reply(self, turn: Turn) -> Iterator[Any]:
        match turn.text:
            case "twice":
                yield Reply("One.")
                yield Reply("Two.")
            case "menu":
                yield Reply(
                    "Here it is.",
                    attachments=[
                        {"title": "Menu", "content_url": "https://www.example.com/m"}
                    ],
                )
            case "human":
                yield Handoff(queue=(), agent_name="Sam", greeting="Sam here.")
            case "nobody":
                yield Handoff(outcome="failed", reason="closed")
            case "leave":
                yield Leave()
            case "bye":
                yield Reply("Goodbye.", end=True)
            case "silence":
                return
            case "order":
                yield Reply("Your order is number 4711, table 12.")
            case _:
                yield Reply(f"You said: {turn.text}")

    def live_reply(self, turn: Turn) -> str:
        return f"Sam heard: {turn.text}"
