"""A restaurant's site with the chat: the application that gunicorn serves.

Its settings come from the environment: ``FLASK_SECRET_KEY``, and all of polysync's as
``FLASK_POLYSYNC_…``.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask, Response, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from polysync.integrations.flask import PolySync

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' https:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types polysync"
)


def who_is_logged_in() -> Mapping[str, str] | None:
    """Return what the agent is to know of the user; it reaches PolyAI signed."""
    name = session.get("user")
    return {"name": name} if name else None


polysync = PolySync(context=who_is_logged_in)


def create_app() -> Flask:
    """Make the application."""
    app = Flask(__name__)
    app.config["POLYSYNC_TITLE"] = "Harbour Table"
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config.from_prefixed_env()
    polysync.init_app(app)

    @app.get("/")
    def home() -> ResponseReturnValue:
        return render_template("home.html", user=session.get("user"))

    @app.post("/login")
    def login() -> ResponseReturnValue:
        # A real site asks for a password, and protects this form by a CSRF token.
        session["user"] = request.form["name"][:40]
        return redirect(url_for("home"))

    @app.post("/logout")
    def logout() -> ResponseReturnValue:
        session.clear()  # the conversation goes with it: it was this user's
        return redirect(url_for("home"))

    @app.after_request
    def add_policy(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return app
