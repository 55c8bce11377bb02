"""What the commands that call a cloud have in common: where it is, who is asking, and which bundles may run here."""

from __future__ import annotations

import contextlib
import functools
import inspect
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cleave.edge_tracer import edge_tracer
from cleave.options import Cloud, Timeout
from cleave.options_identity import Ca, Cert, Key, TokenFile, shown
from cleave.options_seen import Otlp
from cleave.options_trust import AcceptBundles, BundleKeys, RefuseBundles, bundle_trust

if TYPE_CHECKING:
    from edge_node.blocking import EdgeNode
    from edge_node.bundle_store import Progress
    from edge_node.credentials import Credentials
    from edge_node.node import AsyncEdgeNode
    from edge_node.trust import BundleTrust


@dataclass(frozen=True, slots=True)
class Connection:
    """How a command reaches its cloud."""

    cloud: str
    timeout_s: float
    credentials: Credentials
    trust: BundleTrust | None = None

    otlp: str | None = None

    @contextlib.contextmanager
    def edge(self, progress: Progress | None = None) -> Iterator[EdgeNode]:
        """An edge node for one command."""
        from edge_node.blocking import EdgeNode

        with self._options() as options, EdgeNode(self.cloud, progress=progress, **options) as edge:
            yield edge

    @contextlib.asynccontextmanager
    async def async_edge(self) -> AsyncIterator[AsyncEdgeNode]:
        """The same, on a loop."""
        from edge_node.node import AsyncEdgeNode

        with self._options() as options:
            async with AsyncEdgeNode(self.cloud, **options) as edge:
                yield edge

    @contextlib.contextmanager
    def _options(self) -> Iterator[dict[str, Any]]:
        with edge_tracer(self.otlp) as tracer:
            yield {
                "connect_timeout_s": self.timeout_s,
                "reconnect_s": self.timeout_s,
                "credentials": self.credentials,
                "trust": self.trust,
                "tracer": tracer,
            }


def reaching(
    cloud: Cloud,
    timeout_s: Timeout = 10.0,
    token_file: TokenFile = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> Connection:
    """Of a command that fetches no bundle."""
    return Connection(cloud, timeout_s, shown(token_file, ca, cert, key))


def using(
    cloud: Cloud,
    timeout_s: Timeout = 10.0,
    token_file: TokenFile = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    bundle_key: BundleKeys = None,
    accept_bundle: AcceptBundles = None,
    refuse_bundle: RefuseBundles = None,
    otlp: Otlp = None,
) -> Connection:
    """Of a command that runs a head."""
    trust = bundle_trust(bundle_key, accept_bundle, refuse_bundle)
    return Connection(cloud, timeout_s, shown(token_file, ca, cert, key), trust, otlp)


def connects(make: Callable[..., Connection]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose first argument is a Connection gets the options of `make` in its place."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shared = inspect.signature(make).parameters
        hints = typing.get_type_hints(make, include_extras=True)

        @functools.wraps(command)
        def called(**given: Any) -> None:
            connection = make(**{name: given.pop(name) for name in shared})
            command(connection, **given)

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        told = [one.replace(annotation=hints[name]) for name, one in shared.items()]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*told, *own)]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        return called

    return decorate
