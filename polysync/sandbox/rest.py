"""The sandbox's HTTP side: access tokens, sessions and the WebSocket handshake."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from polysync.sandbox.actions import Delay, Drop, Freeze, Moment, Refuse
from polysync.sandbox.connection import Connection, abort
from polysync.sandbox.context import Context
from polysync.sandbox.meter import FrameMeter
from polysync.sandbox.session import Session

__all__ = ["Endpoints"]

CORRELATION_HEADER = "X-Polyai-Correlation-Id"
_PLATFORMS = frozenset({"web", "ios", "android", "ios-web", "android-web", "custom"})
_CLOSE_TIMEOUT = 2.0


class _Refused(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


class Endpoints:
    """The three addresses of the Messaging API."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def application(self) -> web.Application:
        """Return the web application that serves them."""
        app = web.Application(middlewares=[self._frame])
        app.router.add_post("/api/v1/access-token", self.access_token)
        app.router.add_post("/api/v1/sessions", self.create_session)
        app.router.add_get("/ws", self.websocket)
        return app

    async def _record(self, request: web.Request) -> str:
        body = (await request.read()).decode("utf-8", "replace")
        self._context.received.add_request(
            request.method, request.path, request.headers, request.query, body
        )
        return body

    @web.middleware
    async def _frame(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Record the request, word all errors alike, repeat the correlation id."""
        try:
            response: web.StreamResponse = await handler(request)
        except _Refused as refused:
            response = _json({"error": refused.error}, refused.status)
        except web.HTTPException as error:
            await self._record(request)
            response = _json({"error": error.reason}, error.status)
        correlation_id = request.headers.get(CORRELATION_HEADER)
        if correlation_id and not response.prepared:
            response.headers[CORRELATION_HEADER] = correlation_id
        return response

    async def _fault(self, request: web.Request, moment: Moment) -> web.Response | None:
        """Let go wrong what is to go wrong with a request."""
        for action in self._context.faults.at(
            moment, session=request.query.get("session_id")
        ):
            if isinstance(action, Delay):
                await asyncio.sleep(action.seconds)
            elif isinstance(action, Refuse):
                return _refusal(action)
            elif isinstance(action, Freeze):
                await self._context.stopped.wait()
                return web.Response(status=503)
            elif isinstance(action, Drop):
                abort(request.transport, reset=action.reset)
                # Nothing can be answered any more; this only ends the handler.
                return web.Response(status=503)
        return None

    async def access_token(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/access-token``."""
        await self._record(request)
        if (fault := await self._fault(request, Moment.ACCESS_TOKEN)) is not None:
            return fault
        tokens = self._context.tokens
        if error := tokens.refusal(
            request.headers.get("X-Token"), request.headers.get("X-Host")
        ):
            raise _Refused(401, error)
        return _json(
            {
                "access_token": tokens.mint(),
                "expires_in": math.ceil(tokens.lifetime),
                "token_type": "Bearer",
            }
        )

    async def create_session(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/sessions``."""
        body = await self._record(request)
        if (fault := await self._fault(request, Moment.SESSION)) is not None:
            return fault
        token = self._bearer(request.headers.get("Authorization"))
        wishes = _parsed(body)
        streaming = wishes.get("streaming_enabled", False)
        platform = wishes.get("platform", "web")
        if not isinstance(streaming, bool) or platform not in _PLATFORMS:
            raise _Refused(400, "Error parsing request")
        context = self._context
        session = Session(
            context,
            token,
            streaming=streaming and context.settings.streaming,
            platform=platform,
        )
        with context.changes:
            session.start()
            context.sessions[session.id] = session
        return _json({"session_id": session.id})

    def _bearer(self, authorization: str | None) -> str:
        if not authorization:
            raise _Refused(400, "Missing access token")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _Refused(401, "Missing authentication headers")
        if not self._context.tokens.valid(token.strip()):
            raise _Refused(401, "Invalid access token")
        return token.strip()

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        """``GET /ws``: the handshake, then the connection until it ends."""
        await self._record(request)
        if (fault := await self._fault(request, Moment.HANDSHAKE)) is not None:
            return fault
        session = self._admit(request.query)
        limit = self._context.settings.max_message_size_bytes
        ws = web.WebSocketResponse(
            compress=False,
            autoping=True,
            timeout=_CLOSE_TIMEOUT,
            # aiohttp refuses what is as large as its limit.
            max_msg_size=limit + 1 if limit else 0,
        )
        # Counted before the first wait, so that many at once cannot slip through.
        connection = Connection(self._context, session, ws, request.transport)
        with session.admitting(connection):
            try:
                await ws.prepare(request)
            except web.HTTPException as error:
                raise _Refused(400, "invalid connection parameters") from error
            connection.meter = FrameMeter.install(
                request, ws, self._context.settings.max_frame_size_bytes
            )
            session.attach(connection, request.query.get("cursor"))
            await connection.serve()
        return ws

    def _admit(self, query: Mapping[str, str]) -> Session:
        """Return the session that a handshake is for, or refuse it."""
        context = self._context
        session_id, token = query.get("session_id"), query.get("access_token")
        if not session_id or not token:
            raise _Refused(400, "invalid connection parameters")
        if not context.tokens.valid(token):
            raise _Refused(401, "authentication failed")
        session = context.sessions.get(session_id)
        if session is None:
            raise _Refused(404, "session not found")
        if not session.owned_by(token):
            raise _Refused(401, "authentication failed")
        if session.connections >= context.settings.max_connections:
            raise _Refused(429, "connection limit exceeded for session")
        return session


def _json(content: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.json_response(content, status=status)


def _refusal(action: Refuse) -> web.Response:
    body = json.dumps({"error": action.error}) if action.body is None else action.body
    return web.Response(
        status=action.status,
        text=body,
        content_type=action.content_type,
        headers=dict(action.headers),
    )


def _parsed(body: str) -> Mapping[str, Any]:
    """Return the object in the body of a request; an empty body is an empty one."""
    if not body.strip():
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _Refused(400, "Error parsing request")
    return content
