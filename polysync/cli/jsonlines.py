"""The chat for programs: one event a line, as JSON."""

from __future__ import annotations

import json

from polysync.cli.recording import in_wire_form, is_assembled
from polysync.cli.view import LineView
from polysync.events import Event

__all__ = ["JsonView"]


class JsonView(LineView):
    """Writes events as the server sent them; everything else goes to stderr.

    A reply that came in chunks is also written whole, after its last chunk, with
    ``"assembled": true`` beside the type, and ``"complete": false`` if it broke off.
    """

    # Numbers are only offered where they are shown.
    bare_numbers = False

    def opened(self, name: str) -> None:
        """Nothing: `SessionStart` says it."""

    def event(self, event: Event) -> None:
        data = in_wire_form(event)
        if is_assembled(event):
            data["assembled"] = True
        if not getattr(event, "complete", True):
            data["complete"] = False
        # ASCII: whatever the text holds, a terminal shows it and obeys nothing.
        self.write(json.dumps(data, separators=(",", ":")))

    def tell_history(self) -> None:
        for line in str(self.conversation.client.transcript).splitlines():
            self.say(json.dumps(line)[1:-1])
