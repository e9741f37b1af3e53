"""The chat's views. Each knows whose conversation it is, and asks the service."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from flask import (
    Blueprint,
    Response,
    current_app,
    jsonify,
    render_template,
    request,
)
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from polysync.errors import ConfigurationError
from polysync.integrations.flask import guard
from polysync.integrations.flask.assets import asset
from polysync.integrations.web.bodies import MAX_BODY, RequestError, error_body
from polysync.integrations.web.feed import last_event_id
from polysync.integrations.web.wire import STREAM_HEADERS

if TYPE_CHECKING:
    from polysync.integrations.flask.extension import PolySync

__all__ = ["Hook", "make_blueprint"]

logger = logging.getLogger(__name__)

#: Called with a view's name before its request.
Hook = Callable[[str], "ResponseReturnValue | None"]

#: What the ready-made page may load: no inline script or style, and no other site's
#: but pictures.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' https:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types polysync"
)

#: Words for the errors that are not the service's, such as a rate limiter's.
_CODES = {
    401: ("login", "Please sign in."),
    403: ("forbidden", "This is not allowed."),
    413: ("too_large", "This message is too long."),
    429: ("busy", "Please try again soon."),
}

_FOREVER = "public, max-age=31536000, immutable"


def make_blueprint(
    polysync: PolySync,
    *,
    hook: Hook | None = None,
    context: Callable[[], Mapping[str, Any] | None] | None = None,
) -> Blueprint:
    """Make the blueprint ``polysync`` for one application.

    Its views are ``page``, ``asset``, ``start``, ``messages``, ``events``,
    ``suggestions``, ``typing``, ``end``, and ``context`` if there is any to sign.
    """
    chat = Blueprint("polysync", __name__, template_folder="templates")

    @chat.before_request
    def check() -> ResponseReturnValue | None:
        view = (request.endpoint or "").rpartition(".")[2]
        if view not in ("page", "asset"):
            guard.check_origin(current_app.config["POLYSYNC_TRUSTED_ORIGINS"])
        if request.method == "POST":
            guard.check_csrf(polysync.key(create=False))
        return hook(view) if hook is not None and view != "asset" else None

    @chat.errorhandler(RequestError)
    def refused(error: RequestError) -> ResponseReturnValue:
        return _answer(error.body(), error.status, error.headers)

    @chat.errorhandler(HTTPException)
    def failed(error: HTTPException) -> ResponseReturnValue:
        if error.response is not None or (error.code or 500) < 400:
            return error.get_response(request.environ)
        status = error.code or 500
        if type(error).__name__ == "CSRFError":  # Flask-WTF's, which came first
            refusal = RequestError(403, "csrf", "The CSRF token is missing or wrong.")
            return _answer(refusal.body(), 403, {})
        code, message = _CODES.get(status, ("error", "The request cannot be served."))
        headers = {n: v for n, v in error.get_headers() if n == "Retry-After"}
        retry_after = getattr(error, "retry_after", None)
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        return _answer(error_body(code, message), status, headers)

    @chat.get("/")
    def page() -> ResponseReturnValue:
        response = current_app.make_response(
            render_template("polysync/chat.html", polysync=polysync)
        )
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    # Not "/static": below the prefix "/", that would hide the site's own files.
    @chat.get("/widget/<name>", endpoint="asset")
    def asset_file(name: str) -> ResponseReturnValue:
        try:
            found = asset(name)
        except KeyError:
            raise RequestError(404, "not_found", "There is no such file.") from None
        response = Response(found.body, content_type=found.content_type)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.set_etag(found.version)
        if request.args.get("v") == found.version:
            response.headers["Cache-Control"] = _FOREVER
        else:
            response.headers["Cache-Control"] = "no-cache"
        return response.make_conditional(request.environ)

    @chat.post("/start")
    def start() -> ResponseReturnValue:
        return _answer(polysync.service.start(_key(), *_body()))

    @chat.post("/messages")
    def messages() -> ResponseReturnValue:
        return _answer(polysync.service.send(_key(), *_body()))

    @chat.get("/events")
    def events() -> ResponseReturnValue:
        stream = polysync.service.events(
            _key(),
            last_event_id(cast("Mapping[str, str]", request.headers), request.args),
            patient=bool(request.environ.get("wsgi.multithread")),
        )
        if stream is None:
            return _nothing()
        return Response(stream, headers=STREAM_HEADERS)

    @chat.get("/suggestions")
    def suggestions() -> ResponseReturnValue:
        return _answer(polysync.service.suggestions(_key()))

    @chat.post("/typing")
    def typing() -> ResponseReturnValue:
        polysync.service.typing(_key(), *_body())
        return _nothing()

    @chat.post("/end")
    def end() -> ResponseReturnValue:
        ended = polysync.service.end(_key(), *_body())
        return _nothing() if ended is None else _answer(ended)

    if context is not None:

        @chat.post("/context", endpoint="context")
        def signed_context() -> ResponseReturnValue:
            facts = context()
            if facts is None:
                raise RequestError(401, "login", "Please sign in.")
            config = current_app.config
            try:
                signed = polysync.service.sign(
                    _key(),
                    facts,
                    key_id=config["POLYSYNC_CONTEXT_KEY_ID"],
                    secret=config["POLYSYNC_CONTEXT_SECRET"],
                )
            except ConfigurationError as error:
                logger.error("context cannot be signed: %s", error)
                raise RequestError(
                    500, "configuration", "The chat is not set up properly."
                ) from error
            return _answer(signed)

    def _key() -> str:
        key = polysync.key(create=False)
        if key is None:
            raise RequestError(410, "not_found", "There is no conversation.")
        return key

    return chat


def _body() -> tuple[bytes, str | None]:
    """Return the request's body, unread if it is too large, and its type."""
    if (request.content_length or 0) > MAX_BODY:
        raise RequestError(413, "too_large", "This message is too long.")
    return request.stream.read(MAX_BODY + 1), request.content_type


def _answer(
    body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    response = jsonify(body)
    response.status_code = status
    response.headers.update(headers or {})
    response.headers["Cache-Control"] = "no-store"
    return response


def _nothing() -> Response:
    return Response(status=204, headers={"Cache-Control": "no-store"})
