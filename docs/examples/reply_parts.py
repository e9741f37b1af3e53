from polysync import Client

with Client() as client:
    reply = client.ask("What can you do for me?", timeout=20)

    print(f"{reply.agent_name} says: {reply.text}")
    for suggestion in reply.response_suggestions:
        print("one could answer:", suggestion.message_text)
    for attachment in reply.attachments:
        print("see also:", attachment.title, attachment.content_url)
    for action in reply.chat_call_actions:
        print("or call:", action.contact_number)

    # A conversation as people read it: who said what.
    for item in client.transcript:
        print(f"{item.role}: {item.text}")
