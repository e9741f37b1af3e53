from opentelemetry import trace

from polysync import Client
from polysync.integrations.opentelemetry import instrument

tracer = trace.get_tracer("my.application")

client = instrument(Client())

with client, tracer.start_as_current_span("handle request"):
    print(client.ask("Do you have a table for two tonight?").text)
