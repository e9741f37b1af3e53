from polysync import Client

with Client() as client:
    reply = client.stream("What is on the menu?")
    for chunk in reply:
        print(chunk.text, end="", flush=True)
    print()

    whole = reply.message
    assert whole.complete
    assert whole.text == reply.text
    for suggestion in whole.response_suggestions:
        print("one could answer:", suggestion.message_text)
