from polysync import Client
from polysync.events import LanguageChanged

client = Client()


@client.on_agent_message
def show(message):
    who = message.agent_name or "Agent"
    print(f"{who}: {message.text}")


@client.on_connection_change
def report(change):
    print(f"(connection: {change.status})")


@client.on_session_end
def finish(event):
    print(f"(the conversation is over: {event.reason})")


@client.on_error
def complain(error):
    print(f"(trouble: {error})")


client.on(LanguageChanged, lambda event: print(f"(now in {event.language_code})"))

with client:
    client.send_message("Do you have a table for two tonight?")
    client.ask("And one for three?")
