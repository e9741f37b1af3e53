"""Plays scripts on many machines, by dask.distributed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Any, TypeVar

from polysync.errors import ConfigurationError

__all__ = ["DaskExecutor"]

_T = TypeVar("_T")


class DaskExecutor(Executor):
    """Runs calls on the workers of a dask cluster.

    A conversation spends its time waiting, so each call leaves the worker's thread
    pool as it begins: how many are under way is for the caller to say, not for the
    workers' number of threads. Scripts and options travel to the workers; the
    connector token is among them, so protect the cluster's connections (TLS).

    Args:
        address: The scheduler's address, ``tcp://host:8786`` or ``tls://…``.
        timeout: Seconds for the connection to the scheduler.

    Raises:
        ConfigurationError: ``distributed`` is not installed, or nothing answers there.
    """

    def __init__(self, address: str, *, timeout: float = 10.0) -> None:
        try:
            distributed = importlib.import_module("distributed")
        except ImportError as error:
            raise ConfigurationError(
                "clusters need dask.distributed; install it with: "
                "pip install 'polysync[dask]'"
            ) from error
        try:
            self._client: Any = distributed.Client(
                address, timeout=timeout, set_as_default=False, name="polysync"
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"no dask scheduler answers at {address} ({error}): check the address, "
                "and that it runs"
            ) from error
        self._inner: Any = self._client.get_executor(pure=False)

    @property
    def workers(self) -> int:
        """How many workers the cluster has now."""
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Have a worker make a call; what it takes and returns is pickled."""
        future: Future[_T] = self._inner.submit(_apart, fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which goes on for others."""
        # Without waiting, it cancels what is left: on a cluster, nobody else would.
        self._inner.shutdown(wait=wait and not cancel_futures)
        self._client.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown(wait=kind is None, cancel_futures=kind is not None)


def _apart(fn: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Make the call outside the worker's thread pool."""
    importlib.import_module("distributed").secede()
    return fn(*args, **kwargs)
