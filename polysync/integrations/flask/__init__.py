"""The chat in a Flask application.

::

    from flask import Flask
    from polysync.integrations.flask import PolySync

    app = Flask(__name__)
    app.config.from_prefixed_env()  # FLASK_POLYSYNC_CONNECTOR_TOKEN, …
    polysync = PolySync(app)

gives a chat page at ``/chat/``; ``{{ polysync_chat() }}`` in any template puts the chat
into that page. `PolySync` documents the settings. Needs the ``flask`` extra.
"""

from __future__ import annotations

from polysync.integrations.flask.extension import PolySync

__all__ = ["PolySync"]
