"""What `polysync` exports is exactly what its modules call public."""

from __future__ import annotations

import configparser
import importlib
import logging
import pickle
import re
from pathlib import Path
from types import ModuleType

import pytest

import polysync

ROOT = Path(__file__).resolve().parent.parent

# Modules whose public names are all at the top.
WHOLE = ("client", "errors", "models")
# Modules of which some names are, and which.
PARTS = {
    "context": {"sign_context"},
    "events": {"Event", "Message"},
    "reply": {"Reply"},
    "protocol.codec": {"decode", "encode"},
    "sessions.state": {"SessionState"},
    "sessions.store": {"CacheStore", "LockTimeoutError"},
    "sessions.pool": {"ClientPool"},
    "statistics": {"ClientStatistics", "Latency"},
}
# Called by code outside this repository exactly as written here.
PROMISED = {
    "AgentError",
    "AuthenticationError",
    "CacheStore",
    "Client",
    "ClientClosedError",
    "ClientPool",
    "ConfigurationError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "ConnectionStatus",
    "DeliveryError",
    "MessageTooLargeError",
    "PolysyncError",
    "ProtocolError",
    "RateLimitError",
    "Reply",
    "ReplyTimeoutError",
    "ServerError",
    "SessionEndedError",
    "SessionNotFoundError",
    "SessionState",
    "decode",
    "encode",
    "sign_context",
}


def module(name: str) -> ModuleType:
    return importlib.import_module(f"polysync.{name}")


def test_exports_are_the_sum_of_the_modules() -> None:
    """Nothing is at the top that has no home below, and nothing public is missing."""
    expected: set[str] = set()
    for name in WHOLE:
        expected |= set(module(name).__all__)
    for names in PARTS.values():
        expected |= names

    assert set(polysync.__all__) == expected


@pytest.mark.parametrize("name", sorted(PARTS))
def test_parts_are_public_below(name: str) -> None:
    """What the top takes from a module is public in it."""
    assert set(module(name).__all__) >= PARTS[name]


def test_no_name_is_exported_twice() -> None:
    """Each name has one home, so that no import depends on an order."""
    assert len(set(polysync.__all__)) == len(polysync.__all__)


def test_names_resolve() -> None:
    """`from polysync import *` works, and gives what the modules define."""
    namespace: dict[str, object] = {}
    exec("from polysync import *", namespace)
    assert set(polysync.__all__) <= set(namespace)
    for name in WHOLE:
        for public in module(name).__all__:
            assert namespace[public] is getattr(module(name), public)


def test_promised_names_are_there() -> None:
    """The names that others rely on are exported."""
    assert set(polysync.__all__) >= PROMISED


def test_every_error_is_exported() -> None:
    """`except polysync.X` works for each error of the tree."""
    errors = {
        name
        for name, value in vars(module("errors")).items()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and not name.startswith("_")
    }
    assert errors <= set(polysync.__all__)


def test_classes_are_named_after_what_users_import() -> None:
    """Exported classes pickle by a path that can be imported."""
    for name in polysync.__all__:
        value = getattr(polysync, name)
        if isinstance(value, type):
            assert pickle.loads(pickle.dumps(value)) is value


def test_version_is_the_packages() -> None:
    """`polysync.__version__` is what setup.cfg says."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert setup["metadata"]["version"] == polysync.__version__


def test_version_is_in_the_changelog() -> None:
    """The version that setup.cfg names has its section in the changelog."""
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    match = re.search(r"^version = (\S+)$", setup, re.MULTILINE)
    assert match
    changelog = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(match[1])} \(", changelog, re.MULTILINE)


def test_logger_is_left_to_the_application() -> None:
    """The package's logger has a NullHandler, no level and no other handler."""
    logger = logging.getLogger("polysync")
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    assert logger.level == logging.NOTSET
    assert logger.propagate


def test_all_is_in_every_public_module() -> None:
    """Each module says what of it is public."""
    without = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "polysync").rglob("*.py")
        if not path.name.startswith("_")
        and "__all__" not in path.read_text(encoding="utf-8")
        and "management" not in path.parts
    ]
    assert without == []
