"""Carries out what the rules order: open and close connections, create sessions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from polysync.errors import PolysyncError
from polysync.protocol.effects import (
    Connect,
    CreateSession,
    Disconnect,
    Order,
    Upgrade,
)
from polysync.protocol.loss import Loss
from polysync.runtime.act import Act
from polysync.runtime.resources import GOODBYE_TIMEOUT
from polysync.runtime.starting import start
from polysync.runtime.websocket import Connection

if TYPE_CHECKING:
    from polysync.runtime.engine import Engine

__all__ = ["take"]

#: Seconds for TCP, TLS and the handshake of one connection.
OPEN_TIMEOUT = 10.0

#: Seconds after which a server that takes no more data counts as gone.
SEND_TIMEOUT = 10.0


def take(engine: Engine, order: Order, act: Act) -> None:
    """Make what an order needs, so that a later order finds it, and note the rest.

    Needs the client's lock; what is noted in ``act`` is done when it is released.
    """
    resources = engine.resources
    if isinstance(order, Connect):
        if engine.network is None:
            raise AssertionError("the network is there before the first order")
        connection = Connection(
            engine.network,
            generation=order.generation,
            listener=engine,
            open_timeout=OPEN_TIMEOUT,
            send_timeout=SEND_TIMEOUT,
        )
        resources.connections[order.generation] = connection
        engine.meters.made(connection)
        act.steps.append(partial(_dial, engine, connection))
    elif isinstance(order, Upgrade):
        session_id = engine.conversation.lifeline.session_id
        if session_id is None or engine.access_token is None:
            raise AssertionError("an upgrade is ordered when there is a session")
        connection = resources.connections[order.generation]
        act.steps.append(
            partial(connection.upgrade, session_id, engine.access_token, order.cursor)
        )
    elif isinstance(order, Disconnect):
        leaving = resources.connections.pop(order.generation, None)
        if leaving is not None:
            resources.let_go(leaving)
            act.steps.append(
                leaving.abort
                if order.abort
                else partial(leaving.close, order.code, "", GOODBYE_TIMEOUT, wait=False)
            )
    elif isinstance(order, CreateSession):
        act.steps.append(
            partial(
                start,
                engine,
                resources,
                engine.network,
                engine.options,
                # Not that of an earlier session, which may be why it failed.
                engine.options.access_token,
                resources.cancel,
                engine.deadline,
                engine.conversation,
            )
        )


def _dial(engine: Engine, connection: Connection) -> None:
    try:
        connection.start()
    except PolysyncError as error:  # there are too many threads
        engine.connection_lost(connection, Loss(reason=str(error)))
        return
    engine.started(connection)
