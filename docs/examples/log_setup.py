import logging
import sys

from polysync import Client

logging.basicConfig(
    stream=sys.stdout,
    level=logging.INFO,
    format="%(asctime)s %(threadName)s %(name)s %(levelname)s: %(message)s",
)
# One conversation's wire traffic, summarised; text of messages shows up here only.
logging.getLogger("polysync").setLevel(logging.DEBUG)

with Client() as client:
    client.ask("Do you have a table for two tonight?")
