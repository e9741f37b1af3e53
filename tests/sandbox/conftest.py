"""A sandbox for each test, with the fastest agent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from polysync.sandbox import EchoAgent, Sandbox
from tests.sandbox.bare import Bare


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(EchoAgent) as running:
        yield running


@pytest.fixture
def bare(sandbox: Sandbox) -> Iterator[Bare]:
    """A client that has a session and is not connected."""
    with Bare(sandbox) as client:
        yield client


@pytest.fixture
def joined(sandbox: Sandbox) -> Iterator[Bare]:
    """A client that has been greeted."""
    with Bare(sandbox, join=True) as client:
        yield client
