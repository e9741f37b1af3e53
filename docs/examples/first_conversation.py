from polysync import Client

with Client(environment="sandbox") as client:
    print(client.greeting.text)
    reply = client.ask("Do you have a table for two tonight?")
    print(reply.text)
