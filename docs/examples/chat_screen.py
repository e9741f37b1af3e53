from polysync import Client, ConnectionStatus, PolysyncError


class Screen:
    """What an app shows of one conversation, without an app around it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.writing = ""  # the reply that is being streamed
        self.banner = ""
        client.on_message_chunk(self.grow)
        client.on_agent_message(self.show)
        client.on_agent_thinking(lambda event: self.draw("…"))
        client.on_live_agent_typing(lambda event: self.draw(event.state))
        client.on_handoff(self.hand_over)
        client.on_connection_change(self.connection)
        client.on_session_end(lambda end: self.draw(f"It is over: {end.reason}"))

    def draw(self, line: str) -> None:
        print(line)

    def grow(self, chunk) -> None:
        self.writing += chunk.text  # it brings its own spaces

    def show(self, message) -> None:
        self.writing = ""  # the whole message takes the place of its chunks
        self.draw(f"{message.agent_name}: {message.text}")
        for suggestion in message.response_suggestions:
            self.draw(f"  [{suggestion.message_text}]")

    def hand_over(self, event) -> None:
        handoff = self.client.handoff
        if handoff is not None:
            self.banner = f"Handoff: {handoff.status}"

    def connection(self, change) -> None:
        lost = change.status is ConnectionStatus.RECONNECTING
        self.banner = "Reconnecting" if lost else ""

    def key_pressed(self) -> None:
        self.client.send_typing()  # as often as you like

    def send(self, text: str) -> None:
        # The message is "pending" at once, and "sent" or "failed" later.
        receipt = self.client.submit_message(text)
        receipt.add_done_callback(self.marked)

    def marked(self, receipt) -> None:
        error = receipt.exception()
        if isinstance(error, PolysyncError):
            self.banner = str(error)


client = Client()
screen = Screen(client)

with client:
    screen.key_pressed()
    screen.send("Do you have a table for two tonight?")
    client.ask("May I see the menu?")

marks = {"pending": "…", "sent": "✓", "failed": "✗"}
for item in client.transcript:
    print(f"{item.role}: {item.text} {marks.get(item.delivery, '')}")
