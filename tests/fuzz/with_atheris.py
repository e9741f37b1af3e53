"""Fuzz `polysync.decode`, and the rules that get its events, guided by coverage.

Not part of the suite, as it has no end. What it finds goes into the corpus, by a name
that says what it is, and so into the suite::

    pip install atheris orjson
    mkdir -p /tmp/found
    PYTHONPATH=. python tests/fuzz/with_atheris.py /tmp/found tests/fuzz/corpus \\
        -max_total_time=600 -max_len=4096

The first folder takes what is found on the way; a frame that breaks something is
written to ``crash-…`` in the current one.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["polysync"]):
    import polysync.protocol.codec
    import polysync.protocol.conversation  # noqa: F401
    from polysync.protocol import structuring

from tests.fuzz.holds import check, check_conversation, corpus

#: Every so many frames, one goes through a conversation, which takes longer.
CONVERSATIONS = 8

count = 0


def test(data: bytes) -> None:
    """Check one input: as bytes and, if it is UTF-8, as text."""
    global count
    count += 1
    parsed = check(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        pass
    else:
        assert repr(check(text)) == repr(parsed)
    if count % CONVERSATIONS == 0:
        check_conversation(data, parsed)


def words() -> str:
    """Return the strings of the corpus, and more, as a dictionary for libFuzzer."""
    found = {"{", "}", "[", "]", ":", ",", "null", "true", "1e400", "NaN", '"\\ud800"'}
    for frame in corpus().values():
        found.update(re.findall(r'"[a-zA-Z_0-9]{2,40}"', str(frame)))
    quoted = (word.replace("\\", "\\\\").replace('"', '\\"') for word in sorted(found))
    return "".join(f'"{word}"\n' for word in quoted)


if __name__ == "__main__":
    logging.disable()
    for frame in corpus().values():
        check_conversation(frame, check(frame))
    # Those that read the classes were written just now, not imported.
    for function in structuring._built.values():
        atheris.instrument_func(function)
    with tempfile.NamedTemporaryFile("w", suffix=".dict") as dictionary:
        dictionary.write(words())
        dictionary.flush()
        atheris.Setup([*sys.argv, f"-dict={dictionary.name}"], test)
        atheris.Fuzz()
