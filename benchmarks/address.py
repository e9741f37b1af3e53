"""Where contenders find the server; imports little, as starts are timed with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl


class Address(NamedTuple):
    """Where a contender finds the server."""

    port: int
    #: The certificate to trust, or none in clear.
    authority: str | None = None

    @property
    def where(self) -> str:
        """How it is called in the tables."""
        return "TLS" if self.authority else "clear"

    def url(self, scheme: str, path: str = "") -> str:
        """Return a URL. ``scheme`` is ``http`` or ``ws``; TLS adds its letter."""
        secure = "s" if self.authority else ""
        return f"{scheme}{secure}://127.0.0.1:{self.port}{path}"

    def context(self) -> ssl.SSLContext | None:
        """Return what trusts the server."""
        if self.authority is None:
            return None
        import ssl

        return ssl.create_default_context(cafile=self.authority)
