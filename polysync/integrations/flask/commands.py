"""``flask polysync check`` and ``flask polysync chat``."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import click
from flask import current_app
from flask.cli import AppGroup

from polysync.errors import PolysyncError, SessionEndedError

if TYPE_CHECKING:
    from polysync.integrations.web.service import ChatService

__all__ = ["commands"]


def commands() -> AppGroup:
    """Make the command group ``polysync``."""
    group = AppGroup("polysync", help="Conversations with the PolyAI agent.")

    @group.command("check")
    @click.option("--offline", is_flag=True, help="Do not connect to PolyAI.")
    def check(offline: bool) -> None:
        """Check the settings, the store and the connection; exit 1 if one fails."""
        from polysync.sessions.memory import MemoryCache

        service = _service()
        store = service.pool.store
        config = current_app.config
        click.echo("settings: ok")
        key = f"check-{secrets.token_hex(8)}"
        try:
            with store.lock(key, timeout=2.0):
                store.load(key)
        except PolysyncError as error:
            raise click.ClickException(f"store: {error}") from error
        click.echo(f"store: ok ({store!r})")
        if isinstance(store.cache, MemoryCache):
            click.secho(
                "store: one process only; with several workers set POLYSYNC_STORE",
                fg="yellow",
            )
        if not current_app.secret_key:
            raise click.ClickException("SECRET_KEY: not set, so there are no sessions")
        if bool(config["POLYSYNC_CONTEXT_SECRET"]) != bool(
            config["POLYSYNC_CONTEXT_KEY_ID"]
        ):
            raise click.ClickException(
                "POLYSYNC_CONTEXT_KEY_ID and POLYSYNC_CONTEXT_SECRET belong together"
            )
        if offline:
            return
        try:
            with service.pool.conversation(key) as client:
                client.end_session()
        except PolysyncError as error:
            raise click.ClickException(f"connection: {error}") from error
        finally:
            service.pool.close()
            store.delete(key)
        click.echo("connection: ok")

    @group.command("chat")
    def chat() -> None:
        """Talk to the agent with the settings of this application; ^D ends it."""
        service = _service()
        key = f"terminal-{secrets.token_hex(8)}"
        try:
            with service.pool.conversation(key) as client:
                click.echo(client.receive().text)
                while True:
                    try:
                        text = click.prompt("", prompt_suffix="> ")
                    except click.Abort:
                        break
                    if text.strip():
                        click.echo(client.ask(text).text)
                click.echo()
                client.end_session()
        except SessionEndedError:
            click.echo("The conversation is over.")
        except PolysyncError as error:
            raise click.ClickException(str(error)) from error
        finally:
            service.pool.close()
            service.pool.forget(key)

    return group


def _service() -> ChatService:
    try:
        service: ChatService = current_app.extensions["polysync"].service()
    except PolysyncError as error:
        raise click.ClickException(f"settings: {error}") from error
    return service
