from polysync import Client
from polysync.sandbox import Handoff, Reply, Sandbox, Turn


def waiter(turn: Turn):
    """Answer one turn: by a string, a Reply, a Handoff, or several of them."""
    if "menu" in turn.text:
        return Reply("Here it is.", suggestions=["Thanks!", "Is there a vegan dish?"])
    if "human" in turn.text:
        return Handoff(agent_name="Sam", greeting="Sam here. How can I help?")
    return f"You said: {turn.text}"


with (
    Sandbox(agent=waiter) as sandbox,
    Client(
        environment=sandbox.base_url,
        connector_token=sandbox.connector_token,
        host=sandbox.host,
    ) as client,
):
    reply = client.ask("May I see the menu?")
    assert [each.message_text for each in reply.response_suggestions] == [
        "Thanks!",
        "Is there a vegan dish?",
    ]

    # receive() gives what no ask() has returned: first of all the greeting.
    assert client.receive() == client.greeting

    client.send_message("Let me talk to a human.")
    message = client.receive()
    print(f"{message.agent_name}: {message.text}")
    assert message.is_live_agent
