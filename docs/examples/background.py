from polysync import Client, SessionNotFoundError, SessionState


def go_to_background(client: Client) -> str:
    """Close the connection. The server keeps the conversation for ten minutes."""
    return client.detach().to_json()


def come_back(kept: str) -> Client:
    """Take the conversation up, or begin a new one where it is too late."""
    client = Client.resume(SessionState.from_json(kept), replay=True)
    try:
        return client.connect()
    except SessionNotFoundError:
        client.close()
        return Client().connect()


client = Client().connect()
client.ask("I would like to book a table.")
kept = go_to_background(client)

client = come_back(kept)
with client:
    print(client.ask("For two, please.").text)
    print(f"{len(client.transcript)} messages on the screen")
