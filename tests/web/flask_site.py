"""A site with the chat, as gunicorn and Flask's own server load it.

Settings come from the environment (``FLASK_POLYSYNC_…``). Every answer names its
process, and ``/stats`` tells how many streams and clients that one has.
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, Response, jsonify

from polysync.integrations.flask import PolySync

app = Flask(__name__)
app.config["SECRET_KEY"] = "the same in all processes"
app.config.from_prefixed_env()
polysync = PolySync(app)


@app.get("/stats")
def stats() -> Response:
    counters = polysync.pool.statistics
    return jsonify(
        streams=polysync.service.streams, live=counters.live, in_use=counters.in_use
    )


@app.after_request
def sign(response: Response) -> Any:
    response.headers["X-Process"] = str(os.getpid())
    return response
