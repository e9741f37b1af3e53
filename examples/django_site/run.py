"""Starts the site with all that it needs, and stops it all on ^C.

    python examples/django_site/run.py [--redis] [--asgi] [--port N] [--pace S]
    python examples/django_site/run.py polysync_chat -m "The menu, please"

The sandbox runs in this process. With a word, that command of ``manage.py`` is run.
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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from polysync.sandbox import Sandbox

HERE = Path(__file__).resolve().parent


@contextmanager
def redis_server(directory: str) -> Iterator[str]:
    """Run a redis-server that listens on a socket in a directory, and nowhere else."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed: leave out --redis, or install it")
    path = f"{directory}/redis.sock"
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", path, "--save", ""],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in server.stdout or ():
            if "eady to accept connections" in line:
                break
        else:
            sys.exit("redis-server did not start")
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.communicate()


def command(arguments: argparse.Namespace) -> list[str]:
    """Return the command line of the server, or of ``manage.py``."""
    if arguments.manage:
        return [sys.executable, str(HERE / "manage.py"), *arguments.manage]
    if arguments.asgi:
        return [
            *[sys.executable, "-m", "uvicorn", "--factory"],
            *["django.core.asgi:get_asgi_application", "--lifespan", "off"],
            *["--port", str(arguments.port), "--workers", "2"],
            *["--timeout-graceful-shutdown", "1"],
        ]
    return [
        *[sys.executable, "-m", "gunicorn", "django.core.wsgi:get_wsgi_application()"],
        *["--bind", f"127.0.0.1:{arguments.port}", "--workers", "2"],
        *["--worker-class", "gthread", "--threads", "8"],
        # Streams are not waited for: browsers come back to where they were.
        *["--graceful-timeout", "1"],
    ]


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--redis", action="store_true", help="Redis as Django's cache")
    parser.add_argument("--asgi", action="store_true", help="uvicorn, not gunicorn")
    parser.add_argument("--port", type=int, default=8000, metavar="N")
    parser.add_argument(
        "--pace", type=float, default=0.4, metavar="S", help="how long the agent thinks"
    )
    parser.add_argument(
        "manage", nargs=argparse.REMAINDER, help="a command of manage.py instead"
    )
    arguments = parser.parse_args()
    # A supervisor stops it like this; what it has started is to stop, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bistro-"))
        sandbox = stack.enter_context(
            Sandbox(reply_delay=arguments.pace, chunk_delay=arguments.pace / 10)
        )
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "bistro.settings",
            "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
            "POLYSYNC_ENVIRONMENT": sandbox.base_url,
            "POLYSYNC_CONNECTOR_TOKEN": sandbox.connector_token,
            "POLYSYNC_HOST": sandbox.host,
            "BISTRO_SECRET_KEY": secrets.token_urlsafe(50),
            "BISTRO_CACHE": f"{directory}/cache",
        }
        if arguments.redis:
            environment["REDIS_URL"] = stack.enter_context(redis_server(directory))
        if not arguments.manage:
            print(f"The Harbour Table: http://127.0.0.1:{arguments.port}/", flush=True)
        server = subprocess.Popen(command(arguments), env=environment)
        try:
            return server.wait()
        except KeyboardInterrupt:
            # In a terminal ^C went to it, too; otherwise it is stopped below.
            with suppress(subprocess.TimeoutExpired):
                return server.wait(5)
            return 0
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
