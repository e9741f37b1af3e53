"""Frames of the corpus, damaged in every way: reading them raises nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.holds import Frame, check, check_conversation, corpus

FRAMES = corpus()
TREES = []
for _frame in FRAMES.values():
    try:
        TREES.append(json.loads(_frame))
    except ValueError:
        continue

ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, 2**31, 2**63 - 1, 2**63, 10**30, 1e300, float("nan")]
    + ["", "0", "-7", "\ud800", "\0", "9" * 25, "2026-08-14T09:26:53Z", "null"]
    + ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "1e400"]
    + [[], {}, [[]], {"": {}}, {"events": []}, {"custom": {"a": "b"}}]
)


def test_the_corpus_is_there() -> None:
    """Each type of event, each oddity and what is known to be bad."""
    assert len(FRAMES) > 100


@pytest.mark.parametrize("name", FRAMES)
def test_frame_of_the_corpus(name: str) -> None:
    """As it stands; those that are said to be of a type are, and without problems."""
    parsed = check(FRAMES[name])
    check_conversation(FRAMES[name], parsed)
    if name.startswith("type_"):
        assert len(parsed.events) == 1
        assert not parsed.problems


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a tree."""
    found = [path]
    if isinstance(tree, dict):
        for key, value in tree.items():
            found += places(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            found += places(value, (*path, index))
    return found


@st.composite
def damaged_trees(draw: st.DrawFn) -> Frame:
    """A frame of the corpus with some values put in another's place, or left out."""
    tree = [json.loads(json.dumps(draw(st.sampled_from(TREES))))]
    for _ in range(draw(st.integers(1, 4))):
        *path, last = draw(st.sampled_from(places(tree)[1:] or [(0,)]))
        parent: Any = tree
        for step in path:
            parent = parent[step]
        match draw(st.integers(0, 4)):
            case 0:
                parent[last] = draw(ODD)
            case 1:
                parent[last] = draw(st.sampled_from(TREES))
            case 2:
                parent[last] = [parent[last], parent[last]]
            case 3 if isinstance(parent, dict):
                parent[draw(st.sampled_from(["payload", "type", "text", "id"]))] = (
                    parent.pop(last)
                )
            case _:
                if parent is not tree:
                    del parent[last]
        tree = json.loads(json.dumps(tree))  # no object twice in it
        if not tree:
            break
    return json.dumps(tree[0] if tree else None)


@st.composite
def damaged_bytes(draw: st.DrawFn) -> Frame:
    """A frame of the corpus with bytes changed, left out or another frame's."""
    frames = st.sampled_from(list(FRAMES.values()))
    data = bytearray(as_bytes(draw(frames)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 1, 2, 10, 100]))
        other = as_bytes(draw(frames))
        cut = draw(st.integers(0, len(other)))
        data[start:end] = draw(
            st.binary(max_size=3)
            | st.sampled_from([b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\u", b"e9"])
            | st.just(other[cut : cut + 20])
        )
    return bytes(data)


def as_bytes(frame: Frame) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


@given(damaged_trees() | damaged_bytes())
@settings(max_examples=500)
def test_damaged_frame(frame: Frame) -> None:
    """It gives sound events or a report, the same with each JSON parser."""
    check(frame)


@given(damaged_trees() | damaged_bytes())
@settings(max_examples=150)
def test_damaged_frame_in_a_conversation(frame: Frame) -> None:
    """It never breaks the rules, nor keeps the next sound event from being told."""
    check_conversation(frame, check(frame))
