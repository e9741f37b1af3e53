"""Start the example: a sandbox, a store, and gunicorn with two workers.

Run it as ``python examples/flask_app/run.py``, with ``--redis`` for Redis instead of
files; ^C stops all of it.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.fernet import Fernet

from polysync.sandbox import Sandbox

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run everything until gunicorn ends or ^C is pressed."""
    parser = argparse.ArgumentParser(description="The Flask example on the sandbox.")
    parser.add_argument("--redis", action="store_true", help="keep states in Redis")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free one")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = f"file://{directory}/store"
        if options.redis:
            store = stack.enter_context(redis_server(directory))
        sandbox = stack.enter_context(Sandbox(reply_delay=0.5, chunk_delay=0.04))
        settings = {
            "SECRET_KEY": secrets.token_hex(),
            "POLYSYNC_ENVIRONMENT": sandbox.base_url,
            "POLYSYNC_CONNECTOR_TOKEN": sandbox.connector_token,
            "POLYSYNC_HOST": sandbox.host,
            "POLYSYNC_STORE": store,
            "POLYSYNC_ENCRYPTION_KEYS": f'["{Fernet.generate_key().decode()}"]',
            "POLYSYNC_MAX_STREAMS": "12",
            "POLYSYNC_CONTEXT_KEY_ID": "example",
            "POLYSYNC_CONTEXT_SECRET": secrets.token_hex(),
        }
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "app:create_app()"]
            + ["--chdir", str(HERE), "--bind", f"127.0.0.1:{options.port}"]
            + ["--workers", str(options.workers)]
            + ["--worker-class", "gthread", "--threads", "16"],
            env={**os.environ, **{f"FLASK_{k}": v for k, v in settings.items()}},
        )
        # ^C reaches gunicorn by itself, as it belongs to the same terminal.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        return server.wait()


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """Run a Redis that keeps nothing on disk; give its address."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed: leave out --redis, or install it")
    path = directory / "redis.sock"
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(path), "--save", ""],
        stdout=subprocess.PIPE,
        text=True,
        # Not by the terminal's ^C: the workers need it until they have ended.
        start_new_session=True,
    )
    try:
        if server.stdout is None:
            raise AssertionError("there is a pipe")
        for line in server.stdout:
            if "eady to accept connections" in line:
                break
        else:
            raise SystemExit("redis-server did not start")
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.communicate()


if __name__ == "__main__":
    sys.exit(main())
