from polysync import Client, SessionState

# The first request: begin, and put what it takes to go on where only we can read it.
client = Client()
client.connect()
client.ask("I would like to book a table.")
saved = client.detach().to_json()

# A later one, perhaps in another process.
client = Client.resume(SessionState.from_json(saved), replay=True)
with client:
    print(client.ask("For two, please.").text)
    print(f"{len(client.transcript)} messages so far")
