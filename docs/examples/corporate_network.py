import os

from polysync import Client


def client_behind_proxy() -> Client:
    """A client for a network with a proxy and a certificate authority of its own."""
    return Client(
        proxy=os.environ[
            "COMPANY_PROXY"
        ],  # http://user:password@proxy.corp.example:3128
        ca_certs="/etc/ssl/certs/ca-certificates.crt",
    )
