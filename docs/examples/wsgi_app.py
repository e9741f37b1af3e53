from urllib.parse import parse_qs

from polysync import Client, PolysyncError


def app(environ, start_response):
    """Answer ``/?question=…`` by an agent, within one request."""
    question = parse_qs(environ.get("QUERY_STRING", ""))["question"][0]
    try:
        # Together below the 30 seconds after which gunicorn kills a sync worker.
        with Client(timeout=8, reply_timeout=15) as client:
            status, body = "200 OK", client.ask(question).text
    except PolysyncError as error:
        status = "503 Service Unavailable" if error.retryable else "502 Bad Gateway"
        body = "The agent cannot be reached."
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [body.encode()]
