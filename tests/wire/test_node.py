"""A client that others could have written talks to the sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from polysync.sandbox import Sandbox

SCRIPT = Path(__file__).parent / "node" / "conversation.mjs"


@pytest.fixture(scope="module")
def script(pytestconfig: pytest.Config) -> Path:
    """The script beside the ``ws`` package, which is installed once per checkout."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} on PATH")
    assert pytestconfig.cache is not None
    directory = pytestconfig.cache.mkdir("node-ws")
    if not (directory / "node_modules" / "ws").is_dir():
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent", "ws@8"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"npm cannot install ws: {done.stderr[-300:]}")
    copy = directory / SCRIPT.name
    shutil.copyfile(SCRIPT, copy)
    return copy


def test_a_node_client_holds_a_conversation_with_the_sandbox(script: Path) -> None:
    """REST, history, join, message, heartbeat and end, without this package."""
    with Sandbox() as sandbox:
        done = subprocess.run(
            ["node", str(script)],
            env={
                "PATH": os.environ["PATH"],
                "BASE_URL": sandbox.base_url,
                "CONNECTOR_TOKEN": sandbox.connector_token,
                "HOST": sandbox.host,
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    kinds = [line.split(":")[0] for line in lines]
    assert [kind for kind in kinds if kind != "heartbeat"] == [
        "joined",
        "agent",
        "user",
        "agent",
        "ended",
        "closed",
    ]
    assert kinds.count("heartbeat") == 1
    assert "user: Do you have a table for two tonight?" in lines
    assert lines[-2:] == ["ended: REASON_USER_END", "closed: 1000"]
