def greet(client):
    """What an application might do with a client."""
    return f"Agent: {client.greeting.text}"


def test_greeting_is_shown(polysync_client):
    assert greet(polysync_client).startswith("Agent: ")


def test_agent_answers(polysync_client):
    assert polysync_client.ask("Do you have a table for two?").text


def test_application_finds_the_server(polysync_environment):
    from polysync import Client

    with Client() as client:
        assert client.ask("Hello?").text
