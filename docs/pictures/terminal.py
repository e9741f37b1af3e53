"""Draw what the commands show in a terminal, run in a real one: tmux.

``python -m docs.pictures.terminal`` draws the manual's pictures; with a directory, it
draws them there, to be looked at. Needs tmux on PATH.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.text import Text

from docs.pictures.waiting import ROOT, directory, until
from polysync.sandbox import Sandbox

# What it shows before each command.
PROMPT = "$ "


class Terminal:
    """A shell in a tmux of its own.

    Args:
        columns: Its width.
        rows: Its height.
        environment: Variables for what runs in it, and all that there are.
    """

    def __init__(self, columns: int, rows: int, environment: dict[str, str]) -> None:
        self.columns = columns
        self._home = tempfile.TemporaryDirectory(prefix="polysync-pictures-")
        self._socket = f"{self._home.name}/tmux"
        variables = {
            "HOME": self._home.name,
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PS1": PROMPT,
            "TZ": "UTC",
            **environment,
        }
        shell = ["env", *(f"{name}={value}" for name, value in variables.items())]
        size = ["-x", str(columns), "-y", str(rows)]
        start = ["-f", "/dev/null", "new-session", "-d", "-c", str(ROOT), *size]
        self._tmux(*start, *shell, "bash", "--norc", "--noprofile")
        self.wait_for(r"^\$")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tmux("kill-server")
        self._home.cleanup()

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *arguments],
            env={name: value for name, value in os.environ.items() if name != "TMUX"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def type(self, text: str) -> None:
        """Type a line."""
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        """Press a key, by tmux's name for it."""
        self._tmux("send-keys", key)

    @property
    def text(self) -> str:
        """What is on the screen, with plain spaces."""
        return self._tmux("capture-pane", "-p").replace("\N{NO-BREAK SPACE}", " ")

    def wait_for(self, pattern: str) -> None:
        """Wait until something is on the screen."""
        try:
            until(lambda: re.search(pattern, self.text, re.MULTILINE), 60)
        except TimeoutError:
            raise TimeoutError(f"no {pattern!r} in:\n{self.text}") from None

    def draw(self, path: Path, title: str) -> None:
        """Draw the screen."""
        lines = self._tmux("capture-pane", "-p", "-e").rstrip("\n")
        console = Console(
            record=True,
            width=self.columns,
            file=io.StringIO(),
            force_terminal=True,
            color_system="truecolor",
        )
        console.print(Text.from_ansi(lines), soft_wrap=True)
        svg = console.export_svg(title=title, unique_id=path.stem)
        # No font from somewhere else: a page of ours loads nothing.
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
        svg = svg.replace("Fira Code, monospace", "ui-monospace, monospace")
        path.write_text(
            "\n".join(map(str.rstrip, svg.splitlines())) + "\n", encoding="utf-8"
        )
        print(path)


@contextmanager
def sandbox() -> Iterator[dict[str, str]]:
    """Run a sandbox that takes its time, and say where it is."""
    with Sandbox(reply_delay=0.3, chunk_delay=0.05) as server:
        yield {
            "POLYSYNC_ENVIRONMENT": server.base_url,
            "POLYSYNC_CONNECTOR_TOKEN": server.connector_token,
            "POLYSYNC_HOST": server.host,
        }


def chat(path: Path) -> None:
    """Book a table, look at the menu, and be put through to a human."""
    with Terminal(84, 36, {}) as terminal:
        terminal.type("polysync chat --environment sandbox")
        terminal.wait_for("Talk to a human")
        terminal.type("A table for two, please")
        terminal.wait_for("2  Tomorrow at 8 pm")
        terminal.type("2")
        terminal.wait_for("Shall I book it")
        terminal.type("yes")
        terminal.wait_for("See you then")
        terminal.type("I'd like to talk to a human")
        terminal.wait_for("this is Sam")
        terminal.type("Is there a high chair?")
        terminal.wait_for("anything else I can do")
        terminal.draw(path, "polysync chat")
        terminal.press("C-d")
        terminal.wait_for(r"^\$ ?$")


def run(path: Path) -> None:
    """Play the scripts of the examples, 50 conversations at a time."""
    with sandbox() as environment, Terminal(92, 17, environment) as terminal:
        terminal.type("polysync run examples/batch/scripts --parallel 50 --repeat 50")
        terminal.wait_for(r"(?s)^reply +\d.*^\$ ?$")
        terminal.draw(path, "polysync run")


def doctor(path: Path) -> None:
    """Ask for advice on a token that is wrong."""
    with sandbox() as environment:
        environment["POLYSYNC_CONNECTOR_TOKEN"] = "copied-from-another-connector"
        with Terminal(88, 26, environment) as terminal:
            terminal.type("polysync doctor")
            terminal.wait_for(r"(?s)heartbeat.*^\$ ?$")
            terminal.draw(path, "polysync doctor")


def main() -> None:
    """Draw them."""
    place = directory()
    chat(place / "terminal-chat.svg")
    run(place / "terminal-run.svg")
    doctor(place / "terminal-doctor.svg")


if __name__ == "__main__":
    main()
