"""``manage.py polysync_chat``: talk to the agent in the terminal."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from polysync.client import Client
from polysync.errors import (
    AgentError,
    DeliveryError,
    PolysyncError,
    ReplyTimeoutError,
    SessionEndedError,
)
from polysync.events import LiveAgentJoined, LiveAgentMessage, Message
from polysync.integrations.django.conf import settings


class Command(BaseCommand):
    """A conversation on standard input and output, with the site's settings."""

    help = (
        "Talks to the agent with the site's settings. Reads a message from each line "
        "of standard input, until an empty line or its end."
    )
    requires_system_checks = ["polysync"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "-m",
            "--message",
            action="append",
            metavar="TEXT",
            help="say this instead of reading standard input; may be repeated",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Run it.

        Raises:
            CommandError: The server cannot be reached, or refuses.
        """
        try:
            with Client(**settings().client_options()) as client:
                client.on(LiveAgentJoined, self._joined)
                client.on(LiveAgentMessage, self._show)
                if client.greeting is not None:
                    self._show(client.greeting)
                self._talk(client, options["message"])
        except SessionEndedError:
            pass
        except PolysyncError as error:
            raise CommandError(f"{type(error).__name__}: {error}") from error
        except KeyboardInterrupt:
            self.stdout.write("")
        # By whomever: what was not ended by then was ended on leaving.
        self.stdout.write("The conversation is over.")

    def _talk(self, client: Client, given: list[str] | None) -> None:
        for text in given if given is not None else iter(self._read, ""):
            if given is not None:
                self.stdout.write(f"> {text}")
            if not text.strip():
                continue
            over = False
            try:
                if client.live_agent is not None:
                    client.send_message(text)  # a human answers when they like
                else:
                    over = self._stream(client, text)
            except (AgentError, DeliveryError, ReplyTimeoutError) as error:
                self.stderr.write(self.style.ERROR(str(error)))
            if over or client.ended:
                return

    def _read(self) -> str:
        if sys.stdin is None:  # closed, as by a supervisor
            return ""
        if sys.stdin.isatty():
            self.stdout.write("> ", ending="")
            self.stdout.flush()
        return sys.stdin.readline().strip()

    def _stream(self, client: Client, text: str) -> bool:
        """Show a reply as it comes; return whether it is the last."""
        reply = client.stream(text)
        name = client.agent.name if client.agent else None
        self.stdout.write(f"{name or 'Agent'}: ", ending="")
        for chunk in reply:
            self.stdout.write(chunk.text, ending="")
            self.stdout.flush()
        self.stdout.write("")
        self._extras(reply.message)
        return reply.message.end_conversation

    def _show(self, message: Message) -> None:
        self.stdout.write(f"{message.agent_name or 'Agent'}: {message.text}")
        self._extras(message)

    def _extras(self, message: Message) -> None:
        for attachment in message.attachments:
            self.stdout.write(f"  [{attachment.title}] {attachment.content_url}")
        for call in message.chat_call_actions:
            self.stdout.write(f"  [{call.title}] {call.contact_number}")
        if message.response_suggestions:
            offered = " | ".join(s.message_text for s in message.response_suggestions)
            self.stdout.write(f"  ({offered})")

    def _joined(self, event: LiveAgentJoined) -> None:
        name = event.agent.name if event.agent else None
        self.stdout.write(f"{name or 'A colleague'} has joined.")
