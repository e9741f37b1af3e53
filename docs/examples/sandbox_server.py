from polysync import Client
from polysync.sandbox import Sandbox

with (
    Sandbox() as sandbox,
    Client(
        environment=sandbox.base_url,
        connector_token=sandbox.connector_token,
        host=sandbox.host,
    ) as client,
):
    assert client.greeting.text
    assert client.ask("Do you have a table for two?").text
