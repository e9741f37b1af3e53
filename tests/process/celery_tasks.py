"""What a Celery worker runs: the manual's task, and a client of the parent process.

The worker imports this before it forks, which the manual advises against: then the
client below is the parent's. Others, who only send tasks, call `configure`.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from polysync import Client, PolysyncError

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "celery_task.py"

_example = runpy.run_path(str(EXAMPLE))
app = _example["app"]
ask_agent = _example["ask_agent"]
parents: Client | None = None


def configure(folder: Path) -> None:
    """Have broker and results in a folder."""
    for name in ("queue", "control", "results"):
        folder.joinpath(name).mkdir(exist_ok=True)
    app.conf.update(
        broker_url="filesystem://",
        broker_transport_options={
            "data_folder_in": str(folder / "queue"),
            "data_folder_out": str(folder / "queue"),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.05,
        },
        result_backend=f"file://{folder / 'results'}",
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
    )


@app.task(name="ask_in_child")
def ask_in_child(question: str) -> tuple[str, int]:
    """Do what the manual's task does, and say which process did it."""
    with Client() as client:
        return client.ask(question).text, os.getpid()


@app.task(name="ask_as_parent")
def ask_as_parent() -> str:
    """Use the parent's client in a child, which is a mistake, and return the error."""
    assert parents is not None
    try:
        return parents.ask("from the wrong process").text
    except PolysyncError as error:
        return f"{type(error).__name__}: {error}"


def answer(message: Any) -> None:
    """Tell, in the parent's conversation, which process the parent is."""
    if message.text == "who is there?":
        assert parents is not None
        parents.send_message(f"process {os.getpid()}")


if "worker" in sys.argv:
    configure(Path(os.environ["TASKS_FOLDER"]))
    parents = Client(platform="custom")
    parents.on_agent_message(answer)
    parents.connect()
