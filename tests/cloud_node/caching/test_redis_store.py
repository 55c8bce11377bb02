"""The store in Redis, against real servers: its bounds, what it does with foreign values, and a Redis in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_node.caching.cache import Cache
from cloud_node.caching.cache_keys import stored_name
from cloud_node.caching.redis_settings import RedisSettings, parse_redis_url
from cloud_node.caching.redis_store import RedisStore
from tests.cloud_node.caching.cached import ANSWER, KEY
from tests.kit.certificates import Authority
from tests.kit.clouds import settle, until
from tests.kit.ports import free_port
from tests.kit.redis_servers import RedisServer, each_server, redis_server, server_programs

# Quick to notice what changes, so that the tests are.
QUICK = {"check_s": 0.1, "retry_s": 0.1}


@contextlib.asynccontextmanager
async def store_in(server: RedisServer, ttl_s: float = 60.0, **changes: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.settings(**{**QUICK, **changes}), ttl_s)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


def over(test: Callable[[RedisServer], Coroutine[Any, Any, None]]) -> Callable[[str], None]:
    """A test that has a server of its own, run with each kind."""

    @each_server
    def run(program: str) -> None:
        with redis_server(program) as server:
            settle(test(server))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@over
async def test_another_process_reads_what_was_written(server: RedisServer) -> None:
    async with store_in(server) as one, store_in(server) as other:
        await one.put(b"key", b"value")
        await one.flush()
        assert await other.get(b"key") == b"value"


@over
async def test_value_is_gone_after_its_time(server: RedisServer) -> None:
    async with store_in(server, ttl_s=0.05) as store:
        await store.put(b"key", b"value")
        await store.flush()
        with server.client() as client:
            assert 0 < client.pttl(b"key") <= 50 or client.get(b"key") is None
        async with asyncio.timeout(5):
            while await store.get(b"key") is not None:
                pass


@over
async def test_garbage_in_the_server_is_a_miss(server: RedisServer) -> None:
    async with store_in(server, max_value_bytes=1000) as store:
        cache, name = Cache(store), stored_name("answer", KEY)
        with server.client() as client:
            await cache.keep_answer(KEY, ANSWER)
            await store.flush()
            assert await cache.answer(KEY) == ANSWER
            good: bytes = client.get(name)
            for garbage in (
                b"\x00",
                b"from another program",
                good[:-1],
                good + b"!",
                bytes(1001),
                b"\x93" * 900,
            ):
                client.set(name, garbage)
                assert await cache.answer(KEY) is None
            for command in (("RPUSH", "a", "b"), ("HSET", "a", "b"), ("SADD", "a"), ("XADD", "*", "a", "b")):
                client.delete(name)
                client.execute_command(command[0], name, *command[1:])
                assert await cache.answer(KEY) is None
            # What belongs there takes its place again.
            await cache.keep_answer(KEY, ANSWER)
            await store.flush()
        assert await cache.answer(KEY) == ANSWER
        assert store.link.is_up


@over
async def test_value_larger_than_allowed_is_neither_written_nor_read(server: RedisServer) -> None:
    async with store_in(server, max_value_bytes=1000) as store:
        await store.put(b"a", bytes(1001))
        await store.put(b"b", bytes(1000))
        await store.flush()
        with server.client() as client:
            assert client.keys() == [b"b"]
            client.set(b"a", bytes(10_000_000))
        assert await store.get_many([b"a", b"b"]) == [None, bytes(1000)]
        assert store.link.troubles["too_large"] == 1


@over
async def test_evictions_and_sizes_are_the_servers_own(server: RedisServer) -> None:
    with server.client() as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + 1_000_000)
        client.config_set("maxmemory-policy", "allkeys-lru")
        async with store_in(server) as store:
            for number in range(40):
                await store.put(str(number).encode(), bytes(100_000))
                await store.flush()
            await until(lambda: store.link.numbers.num_evicted > 0)
            assert 0 < store.link.numbers.num_entries < 40
            assert store.link.numbers.num_bytes > used
            assert store.link.troubles["refused"] == 0


@over
async def test_write_without_room_is_refused_and_counted_and_reads_go_on(server: RedisServer) -> None:
    with server.client() as client:
        async with store_in(server) as store:
            await store.put(b"a", b"1")
            await store.flush()
            client.config_set("maxmemory", 1)
            client.config_set("maxmemory-policy", "noeviction")
            await store.put(b"b", b"2")
            await store.flush()
            assert await store.get_many([b"a", b"b"]) == [b"1", None]
            assert (store.link.troubles["refused"], store.link.is_up) == (1, True)


@over
async def test_hanging_redis_costs_one_timeout_and_then_nothing(server: RedisServer) -> None:
    async with store_in(server, timeout_s=0.1, retry_s=30.0) as store:
        await store.put(b"key", b"value")
        await store.flush()
        server.pause()
        began_s = time.monotonic()
        assert await asyncio.gather(*(store.get(b"key") for _ in range(100))) == [None] * 100
        first_s = time.monotonic() - began_s
        for _ in range(100):
            assert await store.get(b"key") is None
            await store.put(b"other", b"new")
        later_s = time.monotonic() - began_s - first_s
        server.resume()
        assert 0.1 <= first_s < 1.0
        assert later_s < 0.1
        assert not store.link.is_up


@over
async def test_paused_redis_is_used_again_and_no_reply_goes_to_another_question(server: RedisServer) -> None:
    async with store_in(server, timeout_s=0.2) as store:
        keys = [str(number).encode() for number in range(20)]
        for key in keys:
            await store.put(key, key * 2)
        await store.flush()
        for _ in range(3):
            server.pause()
            assert await asyncio.gather(*map(store.get, keys)) == [None] * 20
            server.resume()
            missing = set(keys)
            async with asyncio.timeout(15):
                # A busy machine may take its time; what comes must be what was asked for.
                while missing:
                    await until(lambda: store.link.is_up)
                    asked = sorted(missing, reverse=True)
                    for key, value in zip(asked, await asyncio.gather(*map(store.get, asked)), strict=True):
                        assert value in (None, key * 2)
                        missing -= {key} if value else set()
        assert store.link.troubles["timeout"] >= 3


@over
async def test_redis_that_dies_and_comes_back_empty_costs_hits_only(server: RedisServer) -> None:
    async with store_in(server) as store:
        await store.put(b"key", b"value")
        await store.flush()
        server.kill()
        assert await store.get(b"key") is None
        await until(lambda: store.link.state == "down")
        await store.put(b"key", b"dropped")
        assert await store.get(b"key") is None
        await asyncio.to_thread(server.start)
        await until(lambda: store.link.is_up)
        assert await store.get(b"key") is None
        await store.put(b"key", b"again")
        await store.flush()
        assert await store.get(b"key") == b"again"


def test_redis_that_is_not_there_at_the_start_is_used_once_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def run(server: RedisServer) -> None:
        server.kill()
        with caplog.at_level(logging.INFO, "cloud_node"):
            async with store_in(server) as store:
                assert await store.get(b"key") is None
                await store.put(b"key", b"value")
                assert [record.levelname for record in caplog.records] == ["WARNING"]
                await asyncio.to_thread(server.start)
                await until(lambda: store.link.is_up)
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]

    with redis_server() as server:
        settle(run(server))


def test_wrong_password_is_no_crash_and_is_said_without_it(caplog: pytest.LogCaptureFixture) -> None:
    async def run(server: RedisServer) -> None:
        for password, is_up in (("right", True), ("wrong-secret", False)):
            settings = server.settings(password=password)
            store = RedisStore(settings, 60)
            await store.start()
            assert store.link.is_up is is_up
            await store.put(b"key", b"value")
            await store.close()
            assert password not in repr(settings)
        assert "wrong-secret" not in caplog.text
        assert "invalid username-password pair" in caplog.text

    with redis_server(None, "--requirepass", "right") as server:
        settle(run(server))


@pytest.mark.skipif("redis" not in server_programs(), reason="pip's Valkey is built without TLS")
def test_tls_reaches_the_server_that_its_authority_vouches_for_and_no_other(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path), Authority(tmp_path / "others", "others")
    pair, port = ours.pair("redis"), free_port()

    async def run(server: RedisServer) -> None:
        for authority, is_up in ((ours, True), (others, False)):
            url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={authority.cert}"
            store = RedisStore(replace(parse_redis_url(url), timeout_s=5.0), 60)
            await store.start()
            await store.put(b"key", b"value")
            await store.flush()
            assert (store.link.is_up, await store.get(b"key")) == (is_up, b"value" if is_up else None)
            await store.close()

    options = {
        "--tls-port": port, "--tls-cert-file": pair.cert, "--tls-key-file": pair.key, "--tls-ca-cert-file": ours.cert,
        "--tls-auth-clients": "no",
    }  # fmt: skip
    given = [str(word) for option in options.items() for word in option]
    with redis_server(server_programs()["redis"], *given) as server:
        settle(run(server))


def test_what_answers_there_and_is_no_redis_is_down() -> None:
    async def run() -> None:
        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
            writer.write(b"$99999999999\r\n")
            await writer.drain()

        listening = await asyncio.start_server(babble, "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            store = RedisStore(RedisSettings("127.0.0.1", port, timeout_s=0.1, write_timeout_s=0.1), 60)
            await store.start()
            assert not store.link.is_up
            assert await store.get(b"key") is None
            await store.close()

    settle(run())


def test_look_ups_and_writes_that_wait_are_bounded() -> None:
    async def run(server: RedisServer) -> None:
        async with store_in(
            server, timeout_s=0.1, num_connections=2, max_waiting=10, max_pending_bytes=5000, retry_s=30.0
        ) as store:
            server.pause()
            for number in range(20):
                await store.put(str(number).encode(), bytes(1000))
            assert store._pending_bytes <= 5000
            assert store.link.troubles["dropped"] == 15
            found = await asyncio.gather(*(store.get(b"key") for _ in range(30)))
            assert found == [None] * 30
            assert store.link.troubles["busy"] == 20
            server.resume()
            with server.client() as client:
                assert len(client.client_list()) <= 2 + 2 + 1

    with redis_server() as server:
        settle(run(server))
