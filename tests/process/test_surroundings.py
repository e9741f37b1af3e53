"""Interpreters and servers that are known to break threads."""

from __future__ import annotations

import sys
import types
import warnings

import pytest

from polysync.runtime.surroundings import check_surroundings


@pytest.mark.parametrize(
    ("release", "warned"),
    [((3, 13, 5), False), ((3, 13, 6), True), ((3, 13, 7), False), ((3, 14, 0), False)],
)
def test_only_the_deadlocking_release_is_warned_of(
    release: tuple[int, int, int], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython 3.13.6, and neither its predecessor nor its successor."""
    monkeypatch.setattr(sys, "version_info", (*release, "final", 0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_surroundings()
    assert [w.category for w in caught] == [RuntimeWarning] * warned


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({}, True),
        ({"enable-threads": True}, False),
        ({b"enable-threads": b"true"}, False),
        ({"threads": b"4"}, False),
        ({"enable-threads": b"false"}, True),
    ],
)
def test_uwsgi_without_threads_is_warned_of(
    options: dict[str, object], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its threads run only with a switch, which the warning names."""
    server = types.ModuleType("uwsgi")
    server.opt = options  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uwsgi", server)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_surroundings()
    assert [w.category for w in caught] == [RuntimeWarning] * warned
    assert all("--enable-threads" in str(w.message) for w in caught)
