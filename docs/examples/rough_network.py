from polysync import Client
from polysync.sandbox import Sandbox

with (
    Sandbox() as sandbox,
    Client(
        environment=sandbox.base_url,
        connector_token=sandbox.connector_token,
        host=sandbox.host,
        reconnect_delay=0.05,
    ) as client,
):
    # The next message arrives, but the connection breaks before its receipt is sent.
    sandbox.faults.lose_echo()
    # This one is lost with the connection.
    sandbox.faults.lose_message(after=1)

    client.ask("A table for two, please.")
    client.ask("Tonight at eight.")

    # What the agent was told, each once.
    said = [item.text for item in client.transcript if item.role == "user"]
    assert said == ["A table for two, please.", "Tonight at eight."]
    assert all(
        item.delivery == "sent" for item in client.transcript if item.role == "user"
    )
