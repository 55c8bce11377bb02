"""Leases, over a real Redis: one of several clouds computes, and whoever waits is never left waiting."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from cloud_node.caching.leases import Lease, Leases
from cloud_node.caching.redis_store import RedisStore
from tests.kit.clouds import settle, until
from tests.kit.redis_servers import RedisServer, each_server, redis_server

NAME, VALUE_NAME = b"lease", b"value"
LONG_S = 15.0


@dataclass(frozen=True, slots=True)
class Node:
    """What one cloud has of it."""

    store: RedisStore
    leases: Leases

    async def take(self, most_s: float = LONG_S) -> bytes | Lease | None:
        return await self.leases.take_or_follow(NAME, VALUE_NAME, lambda value: value, most_s)

    async def taken(self) -> Lease:
        lease = await self.take()
        assert isinstance(lease, Lease)
        return lease


@contextlib.asynccontextmanager
async def node_at(server: RedisServer, **changes: Any) -> AsyncIterator[Node]:
    store = RedisStore(server.settings(**changes), 60)
    await store.start()
    node = Node(store, Leases(store))
    try:
        yield node
    finally:
        await node.leases.close()
        await store.close()


Test = Callable[[RedisServer, Node, Node], Coroutine[Any, Any, None]]


def of_two(**changes: Any) -> Callable[[Test], Callable[[str], None]]:
    """A test of two clouds that share a server, run with each kind."""

    def decorate(test: Test) -> Callable[[str], None]:
        @each_server
        def run(program: str) -> None:
            async def inside(server: RedisServer) -> None:
                async with node_at(server, **changes) as a, node_at(server, **changes) as b:
                    await test(server, a, b)

            with redis_server(program) as server:
                settle(inside(server))

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


@of_two()
async def test_one_gets_the_lease_and_the_other_its_value(server: RedisServer, a: Node, b: Node) -> None:
    lease = await a.taken()
    follower = asyncio.create_task(b.take())
    await a.store.put(VALUE_NAME, b"answer")
    await a.leases.give_back(lease)
    assert await follower == b"answer"
    assert await a.take() == b"answer"
    with server.client() as client:
        assert client.keys() == [VALUE_NAME]


@of_two()
async def test_lease_that_is_given_back_without_a_value_goes_to_who_waits(
    server: RedisServer, a: Node, b: Node
) -> None:
    lease = await a.taken()
    follower = asyncio.create_task(b.take())
    await a.leases.give_back(lease)
    assert isinstance(await follower, Lease)


@of_two(lease_s=0.3)
async def test_lease_of_a_cloud_that_died_goes_to_who_waits(server: RedisServer, a: Node, b: Node) -> None:
    await a.taken()
    assert a.leases._renewing is not None
    a.leases._renewing.cancel()
    a.leases._ours.clear()
    began_s = time.monotonic()
    assert isinstance(await b.take(), Lease)
    assert time.monotonic() - began_s < 5


@of_two(lease_s=0.3)
async def test_lease_is_renewed_for_as_long_as_it_is_held(server: RedisServer, a: Node, b: Node) -> None:
    lease = await a.taken()
    assert await b.take(most_s=1.0) is None
    with server.client() as client:
        assert client.get(NAME) == lease.token


@of_two()
async def test_lease_that_expired_is_not_given_back_for_another(
    server: RedisServer, a: Node, b: Node
) -> None:
    old = await a.taken()
    with server.client() as client:
        client.delete(NAME)
        new = await b.taken()
        await a.leases.give_back(old)
        assert client.get(NAME) == new.token


@of_two()
async def test_no_wait_is_longer_than_it_may_be(server: RedisServer, a: Node, b: Node) -> None:
    await a.taken()
    began_s = time.monotonic()
    assert await b.take(most_s=0.1) is None
    assert 0.1 <= time.monotonic() - began_s < 1.0


@of_two(max_follow_s=0.1)
async def test_operator_bounds_the_wait_too(server: RedisServer, a: Node, b: Node) -> None:
    await a.taken()
    assert await b.take() is None


@of_two(timeout_s=0.2)
async def test_redis_that_dies_or_hangs_is_not_waited_for(server: RedisServer, a: Node, b: Node) -> None:
    for trouble in (server.pause, server.kill):
        await a.taken()
        follower = asyncio.create_task(b.take())
        await until(lambda: b.store.link._num_waiting > 0)
        began_s = time.monotonic()
        trouble()
        assert await follower is None
        assert await a.take() is None
        assert time.monotonic() - began_s < 2.0
        if trouble == server.pause:
            server.resume()
            await until(lambda: a.store.link.is_up and b.store.link.is_up)
            with server.client() as client:
                client.flushall()


@of_two()
async def test_garbage_where_a_lease_belongs_means_to_compute_in_vain_at_worst(
    server: RedisServer, a: Node, b: Node
) -> None:
    with server.client() as client:
        client.rpush(NAME, b"foreign")
        client.rpush(VALUE_NAME, b"foreign")
        assert await a.take(most_s=0.1) is None
        client.delete(VALUE_NAME)
        client.delete(NAME)
        client.set(NAME, bytes(1000))
        assert await a.take(most_s=0.1) is None
    assert a.store.link.is_up


@of_two(lease_s=60.0)
async def test_cloud_that_closes_gives_its_leases_back(server: RedisServer, a: Node, b: Node) -> None:
    await a.taken()
    follower = asyncio.create_task(b.take())
    await a.leases.close()
    assert isinstance(await follower, Lease)


@of_two(lease_s=60.0, timeout_s=5.0)
async def test_lease_that_was_asked_for_by_one_who_left_goes_back(
    server: RedisServer, a: Node, b: Node
) -> None:
    server.pause()
    asking = asyncio.create_task(a.take())
    await until(lambda: a.store.link._num_waiting > 0)
    for _ in range(20):  # until the command has been sent
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    server.resume()
    began_s = time.monotonic()
    await b.taken()
    assert time.monotonic() - began_s < 5
    assert not a.leases._ours
