"""A conversation over a connection that is cut at random moments.

Every message has to reach the server once, in order, and every reply has to come back
once, in order, whatever is cut: before the server has a message, after it has it and
before its echo, in the middle of a frame, in the middle of a reply, in the middle of a
replay.

    python benchmarks/storm.py [--messages 10000] [--every 40] [--seed 0]
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import random
import sys
import threading
import time

from polysync import Client
from polysync.models import ConnectionChange, ConnectionStatus
from polysync.sandbox import EchoAgent, Sandbox

#: Messages that are on their way at once.
WINDOW = 32


def cuts(sandbox: Sandbox) -> dict[str, collections.abc.Callable[[], object]]:
    """The ways to cut, by name."""
    faults = sandbox.faults
    return {
        "before the server has the message": lambda: faults.lose_message(
            "USER_MESSAGE"
        ),
        "before the echo": lambda: faults.lose_echo("USER_MESSAGE"),
        "after the echo": lambda: faults.drop_after("USER_MESSAGE"),
        "in an echo's frame": lambda: faults.cut_frame("USER_MESSAGE"),
        "in a chunk's frame": lambda: faults.cut_frame("POLY_AGENT_MESSAGE_CHUNK"),
        "in the middle of a reply": lambda: faults.drop_after(
            "POLY_AGENT_MESSAGE_CHUNK", after=1
        ),
        "in the replay after a reset": lambda: (
            faults.drop_mid_replay(),
            sandbox.session.drop(),
        ),
        "by a reset": lambda: sandbox.session.drop(),
    }


def main() -> int:
    """Run the storm and print what came of it; 1 if anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=40, help="messages between cuts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    texts = [f"message {number}" for number in range(options.messages)]
    replies: list[str] = []
    echoes: list[str] = []
    lost = 0
    counts: collections.Counter[str] = collections.Counter()
    complete = threading.Event()

    with Sandbox(EchoAgent()) as sandbox:
        client = Client(
            sandbox.connector_token,
            sandbox.host,
            environment=sandbox.base_url,
            reconnect_delay=0.01,
            reconnect_delay_max=0.1,
            max_reconnects=100,
            timeout=60,
        )

        @client.on_agent_message
        def replied(message: object) -> None:
            replies.append(message.text)
            if len(replies) == options.messages + 1:  # and the greeting
                complete.set()

        @client.on_user_message
        def echoed(message: object) -> None:
            echoes.append(message.text)

        @client.on_connection_change
        def changed(change: ConnectionChange) -> None:
            nonlocal lost
            lost += (
                change.status is ConnectionStatus.RECONNECTING and change.attempt == 1
            )

        client.connect()
        ways = cuts(sandbox)
        started = time.perf_counter()
        window: collections.deque[concurrent.futures.Future[object]] = (
            collections.deque()
        )
        next_cut = chance.randrange(1, 2 * options.every)
        for number, text in enumerate(texts):
            window.append(client.submit_message(text))
            if len(window) >= WINDOW:
                window.popleft().result(timeout=60)
            if number == next_cut:
                next_cut += chance.randrange(1, 2 * options.every)
                way = chance.choice(list(ways))
                counts[way] += 1
                ways[way]()
        for future in window:
            future.result(timeout=60)
        complete.wait(60)
        seconds = time.perf_counter() - started
        sandbox.faults.clear()
        taken = [message.text for message in sandbox.session.user_messages]
        client.end_session()

    greeting, *answers = replies
    results = {
        "taken by the server": taken,
        "echoes told": echoes,
        "replies told": answers,
    }
    print(
        f"{options.messages} messages, {sum(counts.values())} cuts ordered, "
        f"{lost} connections lost, {seconds:.1f} s"
    )
    for way, count in sorted(counts.items()):
        print(f"  {count:5} {way}")
    failed = False
    for what, got in results.items():
        missing = len(set(texts) - set(got))
        doubled = len(got) - len(set(got))
        order = got == texts
        failed |= not order
        print(
            f"  {what}: {missing} lost, {doubled} twice, "
            f"order {'kept' if order else 'BROKEN'}"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
