"""A sandbox with an agent for scripts, and the options to reach it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polysync.sandbox import Sandbox
from polysync.scenarios import Outcome, Script, Step, load_scripts, play
from tests.scenarios.agents import Waiter

PATIENCE = 10.0 * float(os.environ.get("POLYSYNC_TEST_UNIT", "1"))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Waiter) as server:
        yield server


@pytest.fixture
def options(sandbox: Sandbox) -> dict[str, Any]:
    """Keywords for clients of the sandbox."""
    return {
        "environment": sandbox.base_url,
        "connector_token": sandbox.connector_token,
        "host": sandbox.host,
        "timeout": PATIENCE,
        "reconnect_delay": 0.01,
    }


@pytest.fixture
def perform(options: dict[str, Any]) -> Callable[..., Outcome]:
    """Play steps, return the outcome: ``perform(Say("x"), Expect(text=("y",)))``."""

    def run(*steps: Step, **settings: Any) -> Outcome:
        script = Script(name="test", steps=steps, **{"within": PATIENCE, **settings})
        return play(script, options)

    return run


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., list[Script]]:
    """Write a file, and load the scripts in it."""

    def load(text: str, name: str = "talk.yaml", **variables: str) -> list[Script]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return load_scripts(path, variables=variables)

    return load
