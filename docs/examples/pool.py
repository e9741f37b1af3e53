import tempfile

from cachelib import FileSystemCache

from polysync import CacheStore, ClientPool

with tempfile.TemporaryDirectory() as directory:
    # By default it keeps 500 entries, and removes conversations beyond that.
    pool = ClientPool(CacheStore(FileSystemCache(directory, threshold=100_000)))

    def handle_request(conversation_key: str, text: str) -> str:
        with pool.conversation(conversation_key) as client:
            return client.ask(text).text

    print(handle_request("user-7", "I would like to book a table."))
    print(handle_request("user-7", "For two, please."))
    pool.close()
