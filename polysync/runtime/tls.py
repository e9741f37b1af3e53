"""Which certificates are trusted, and what to do when one is not."""

from __future__ import annotations

import os
import ssl
import threading

from polysync.errors import ConfigurationError

__all__ = ["advise", "trust"]

_lock = threading.Lock()
_contexts: dict[tuple[str | None, ...], ssl.SSLContext] = {}

# Numbers of OpenSSL's X509_V_ERR_…
_NOT_YET_VALID = 9
_EXPIRED = 10
_UNKNOWN_ISSUER = {2, 18, 19, 20, 21}
_WRONG_NAME = {62, 64}


def trust(ca_certs: str | None) -> ssl.SSLContext:
    """Return the TLS context for a set of trusted certificates, one for each set.

    Args:
        ca_certs: Path of a PEM file or of a directory of hashed ones, which are then
            the only certificates that are trusted. ``None``: those of the system,
            or of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` if these are set.

    Raises:
        ConfigurationError: The path holds no certificates.
    """
    # What decides when no path is given; it may be set after the first connection.
    found = ("SSL_CERT_FILE", "SSL_CERT_DIR") if ca_certs is None else ()
    key = (ca_certs, *map(os.environ.get, found))
    with _lock:
        context = _contexts.get(key)
        if context is None:
            context = _contexts[key] = _load(ca_certs)
        return context


def _load(ca_certs: str | None) -> ssl.SSLContext:
    if ca_certs is None:
        return ssl.create_default_context()
    path = os.path.expanduser(ca_certs)
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"ca_certs: no certificates can be read from {ca_certs!r} ({error}); give "
            "a PEM file, or a directory prepared with `openssl rehash`."
        ) from error


def advise(error: ssl.SSLError, host: str) -> tuple[str, bool]:
    """Say what a TLS failure means, and whether trying again may help.

    Args:
        error: What the handshake raised.
        host: Name of the server.
    """
    if not isinstance(error, ssl.SSLCertVerificationError):
        if "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error):
            return (
                f"{host} does not speak TLS on this port; check the address, and "
                "whether a proxy stands in between.",
                False,
            )
        return f"The TLS handshake with {host} failed: {_words(error)}.", True
    code = error.verify_code
    if code in _WRONG_NAME:
        what = (
            f"The certificate is not one for {host}, so this may not be the right "
            "server; check the environment's address."
        )
    elif code == _EXPIRED:
        what = (
            f"The certificate of {host} has expired, or the clock of this machine is "
            "wrong."
        )
    elif code == _NOT_YET_VALID:
        what = (
            f"The certificate of {host} is not valid yet; check the clock of this "
            "machine."
        )
    elif code in _UNKNOWN_ISSUER:
        what = (
            f"The certificate of {host} comes from an issuer that is not trusted "
            "here. If a proxy of your company inspects TLS, give its certificate with "
            "ca_certs; if this Python has no certificates at all, install them or "
            "give ca_certs=certifi.where()."
        )
    else:
        what = f"The certificate of {host} was refused: {error.verify_message}."
    return what, False


def _words(error: ssl.SSLError) -> str:
    return error.reason or str(error) or type(error).__name__


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
