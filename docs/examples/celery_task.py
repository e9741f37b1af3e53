from celery import Celery

from polysync import Client, DeliveryError, PolysyncError

app = Celery("bookings", broker="memory://", backend="cache+memory://")


@app.task(bind=True, max_retries=3, soft_time_limit=60)
def ask_agent(self, question: str) -> str:
    try:
        with Client(timeout=10, reply_timeout=30) as client:
            return client.ask(question).text
    except PolysyncError as error:
        doubled = isinstance(error, DeliveryError) and error.uncertain
        if error.retryable and not doubled:
            raise self.retry(exc=error, countdown=5) from error
        raise
