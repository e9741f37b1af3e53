"""The example in examples/flask_app, started as its README says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.web.conftest import Server, Visitor, kill

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]


@pytest.mark.parametrize(
    "options", [[], pytest.param(["--redis"], marks=pytest.mark.redis)]
)
def test_the_example_runs(
    servers: list[Server], options: list[str], tmp_path: Path
) -> None:
    """One command; two workers share a conversation, also when one is killed."""
    command = [sys.executable, str(ROOT / "examples/flask_app/run.py"), "--port", "0"]
    environment = {"PYTHONPATH": str(ROOT), "FLASK_POLYSYNC_STREAM_SECONDS": "0.5"}
    server = Server([*command, *options], {**environment, "HOME": str(tmp_path)})
    servers.append(server)
    port = int(server.wait_for(r"Listening at: http://127.0.0.1:(\d+)")[1])
    server.wait_for("Booting worker")
    server.wait_for("Booting worker")
    visitor = Visitor(port)
    status, home = visitor.request("GET", "/")
    assert status == 200
    assert "data-csrf-token" in home
    visitor.open()
    visitor.start()
    assert visitor.post("context")[0] == 401
    assert visitor.post("messages", text="Book a table")[0] == 200
    visitor.hear("With pleasure. For how many people?")
    kill(visitor.process or server.lines[-1].rpartition(" ")[2])
    server.wait_for("Booting worker")
    assert visitor.post("messages", text="two")[0] == 200
    visitor.listen(lambda visitor: len(visitor.replies) == 2)
    assert visitor.post("end")[0] == 200


def test_without_redis_it_says_so(tmp_path: Path) -> None:
    """In one line, where there is no redis-server to start."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/flask_app/run.py"), "--redis"],
        env={"PYTHONPATH": str(ROOT), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "redis-server is not installed: leave out --redis, or install it"
    ]
