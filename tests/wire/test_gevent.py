"""The connection under gevent's monkey patches: connect, both ways, every end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

PROGRAM = r"""
from gevent import monkey
monkey.patch_all()

import pathlib, queue, sys, threading, time
import gevent

from polysync.runtime import rest, timers
from polysync.runtime.clock import Deadline
from polysync.runtime.network import Cancel, Network, close_idle
from polysync.runtime.websocket import Connection
from tests.peers import CLOSE, Authority, Peer

class Told:
    def __init__(self):
        self.told = queue.Queue()
    def connection_opened(self, connection):
        self.told.put("opened")
    def connection_received(self, connection, payload):
        self.told.put(payload)
    def connection_lost(self, connection, loss):
        self.told.put(loss)
    def next(self):
        return self.told.get(timeout=10)

def serve(conn):
    while True:
        head = conn.read_head()
        if "upgrade" not in head.headers:
            conn.answer(200, {"access_token": "a", "session_id": "s"})
            continue
        conn.upgrade(head)
        while True:
            message = conn.read_message()
            if message.opcode == CLOSE:
                conn.write_close(message.code)
                return
            if message.text == "mute":
                conn.wait_closed()
                return
            if message.text == "stop reading":
                conn.peer.released.wait(10)
                return
            conn.write_frame(message.opcode, message.payload)

def open_one(network, **options):
    told = Told()
    options = {"open_timeout": 10, "send_timeout": 10, **options}
    connection = Connection(network, generation=1, listener=told, **options)
    connection.start()
    connection.upgrade("s", "a", None)
    assert told.next() == "opened"
    return connection, told

ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.001)
        ticks += 1
gevent.spawn(tick)

authority = Authority(pathlib.Path(sys.argv[1]))
for context in (None, authority.server()):
    with Peer(serve, tls=context) as peer:
        network = Network(peer.url, ca_certs=authority.path)
        deadline = Deadline(10)
        token = rest.access_token(network, "t", "h", deadline=deadline,
            cancel=Cancel(), random=lambda: 0.5)
        assert token.token == "a"
        # both ways, many senders
        connection, told = open_one(network)
        def send(number):
            for _ in range(20):
                connection.queue(f"{number}" * 3000)
                connection.flush(True)
        senders = [threading.Thread(target=send, args=(n,)) for n in range(5)]
        for sender in senders: sender.start()
        got = [told.next() for _ in range(100)]
        assert all(len(set(each)) == 1 for each in got)
        for sender in senders: sender.join()
        # idle: other greenlets run
        before = ticks
        gevent.sleep(0.05)
        assert ticks > before + 5, ticks - before
        # close
        assert connection.close(timeout=5)
        assert told.next().close_code == 1000
        # close of a mute peer
        connection, told = open_one(network)
        connection.queue("mute"); connection.flush(True)
        assert connection.close(timeout=0.1)
        assert told.next().close_code == 1006
        # abort
        connection, told = open_one(network)
        connection.abort()
        assert connection.join(5)
        assert told.next().close_code == 1006
        # a peer that takes nothing
        connection, told = open_one(network, send_timeout=0.1)
        connection.queue("stop reading")
        for _ in range(200):
            connection.queue("x" * 100_000)
        connection.flush(True)
        assert "did not take" in told.next().reason
        assert connection.join(5)
        # a request that is cancelled
        cancel = Cancel()
        with Peer(lambda conn: conn.wait_closed()) as mute:
            gevent.spawn_later(0.05, cancel.cancel)
            try:
                Network(mute.url).request("POST", "/", headers={}, body=b"",
                    deadline=Deadline(10), cancel=cancel)
            except Exception as error:
                assert type(error).__name__ == "ClientClosedError", error
            else:
                raise AssertionError("not cancelled")
        close_idle()
assert timers.settle(5)
left = [t.name for t in threading.enumerate() if t.name.startswith("polysync-")]
assert not left, left
print("fine")
"""


@pytest.mark.gevent
@pytest.mark.subprocess
def test_connection_under_gevent(tmp_path: Path) -> None:
    """Plain and TLS: what works with threads works with greenlets, without a block."""
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=ROOT,
    )
    assert done.stdout == "fine\n", done.stderr
    assert done.returncode == 0
