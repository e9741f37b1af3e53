from gevent import monkey

monkey.patch_all()

import gevent

from polysync import Client


def converse(number: int) -> str:
    with Client() as client:
        return client.ask(f"A table for {number}, please.").text


jobs = [gevent.spawn(converse, number) for number in (2, 3, 4)]
gevent.joinall(jobs, raise_error=True)
for job in jobs:
    print(job.value)
