from polysync import Client

with Client("CONNECTOR_TOKEN", "https://www.example.com") as client:
    print(client.greeting.text)
    print(client.ask("Do you have a table for two tonight?").text)
