"""Works a real kernel, in a process of its own: ``execute NOTEBOOK`` or ``chat``.

Jupyter's client leaves sockets open behind it, so the tests do not import it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import nbclient
import nbformat
from jupyter_client import KernelManager

TIMEOUT = 20.0  # s


def manager() -> KernelManager:
    """Return a kernel on sockets in the working directory, which nobody else sees."""
    return KernelManager(transport="ipc", ip="kernel", kernel_name="python3")


def execute(path: str) -> None:
    """Run a notebook and print its outputs as JSON."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, km=manager(), timeout=TIMEOUT).execute()
    print(json.dumps([each for c in notebook.cells for each in c.get("outputs", ())]))


class FrontEnd:
    """Runs cells as JupyterLab does, and follows the widgets."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.models: dict[str, dict[str, Any]] = {}
        self.printed = ""
        #: The request that ended last.
        self.ended: str | None = None

    def run(self, code: str, cell: str = "cell", *, wait: bool = True) -> str:
        """Run a cell; return its request's id."""
        session = self.client.session
        message = session.msg(
            "execute_request",
            {"code": code, "silent": False, "allow_stdin": True},
            metadata={"cellId": cell},
        )
        self.client.shell_channel.send(message)
        request: str = message["header"]["msg_id"]
        if wait:
            self.until(lambda m: self.idle(m, request), code)
        return request

    @staticmethod
    def idle(message: Any, request: str) -> bool:
        return (
            message["msg_type"] == "status"
            and message["content"]["execution_state"] == "idle"
            and message["parent_header"].get("msg_id") == request
        )

    def until(self, condition: Callable[[Any], object], what: object) -> None:
        """Take messages in until one fulfils the condition."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            self.take(message)
            if condition(message):
                return
        raise AssertionError(f"did not come: {what}; there is {self.shown()}")

    def take(self, message: Any) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            self.ended = message["parent_header"].get("msg_id")
        if kind == "error":
            raise AssertionError("\n".join(content["traceback"]))
        if kind == "stream":
            self.printed += content["text"]
        elif kind == "comm_open":
            self.models[content["comm_id"]] = dict(content["data"]["state"])
        elif kind == "comm_msg" and content["data"].get("method") == "update":
            self.models[content["comm_id"]].update(content["data"]["state"])
        elif kind == "comm_close":
            self.models.pop(content["comm_id"], None)

    def shown(self) -> str:
        return "\n".join(
            str(model["value"])
            for model in self.models.values()
            if model.get("_model_name") == "HTMLModel"
        )

    def wait_for(self, words: str) -> None:
        if words not in self.shown():
            self.until(lambda _: words in self.shown(), words)

    def button(self, label: str) -> str | None:
        """Return the id of a button, if there is one of this label."""
        for key, model in self.models.items():
            if model.get("description") == label:
                return key
        return None

    def send(self, key: str, data: dict[str, Any]) -> None:
        session = self.client.session
        message = session.msg("comm_msg", {"comm_id": key, "data": data})
        self.client.shell_channel.send(message)

    def click(self, label: str) -> None:
        while (key := self.button(label)) is None:
            self.until(lambda _: self.button(label), label)
        self.send(key, {"method": "custom", "content": {"event": "click"}})


CHAT = """
from polysync.integrations.jupyter import ChatWidget
chat = ChatWidget(environment="sandbox")
chat
"""
BUSY = "chat.say('For two'); input()"
AGAIN = "former._thread.join(10); print('ended:', former.client.ended)"
THREADS = """
import threading
threads = [t.name for t in threading.enumerate() if "chat-widget" in t.name]
print("chats:", len(threads))
"""


def chat() -> None:
    """Talk in a chat, block the kernel meanwhile, and run the cell again."""
    kernel = manager()
    kernel.start_kernel()
    client = kernel.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT)
        front_end = FrontEnd(client)
        front_end.run(CHAT, "chat")
        front_end.wait_for("book a table?")
        front_end.click("Book a table")
        front_end.wait_for("For how many people?")

        blocked = front_end.run(BUSY, "other", wait=False)
        front_end.wait_for("A table for 2. When")
        if front_end.ended == blocked:
            raise AssertionError("the cell did not wait for the input")
        client.get_stdin_msg(timeout=TIMEOUT)  # an answer before the question is lost
        client.input("go on")
        front_end.until(lambda m: front_end.idle(m, blocked), BUSY)

        front_end.run("former = chat", "other")
        front_end.run(CHAT, "chat")
        front_end.run(AGAIN, "other")
        front_end.wait_for("book a table?")
        if "For how many people?" in front_end.shown():
            raise AssertionError("the former chat is still there")
        front_end.run(THREADS, "other")
        print(front_end.printed, end="")
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


if __name__ == "__main__":
    {"execute": execute, "chat": chat}[sys.argv[1]](*sys.argv[2:])
