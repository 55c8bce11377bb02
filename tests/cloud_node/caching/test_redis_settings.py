"""Where Redis is, from a URL: what cannot be used is said in one sentence, and a password never."""

from __future__ import annotations

import pytest

from cloud_node.caching.redis_settings import RedisSettings, parse_redis_url
from wire.errors import BadInput


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", RedisSettings("host")),
        ("redis://host:7000/3", RedisSettings("host", 7000, 3)),
        ("redis://[::1]:7000", RedisSettings("::1", 7000)),
        ("redis://:p%40ss@host/1", RedisSettings("host", db=1, password="p@ss")),
        ("rediss://me:pass@host", RedisSettings("host", username="me", password="pass", is_tls=True)),
        ("rediss://host?ssl_ca_certs=/ca.pem", RedisSettings("host", is_tls=True, ca_file="/ca.pem")),
    ],
)
def test_url_says_where_redis_is(url: str, expected: RedisSettings) -> None:
    assert parse_redis_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "", "host:6379", "http://:pa55@host", "redis://", "redis://:pa55@", "redis://:pa55@host:port", "redis://host:99999",
        "redis://:pa55@host/zero", "redis://:pa55@host/-1", "redis://:pa55@host/0#1", "redis://:pa55@host?db=3",
        "redis://host?ssl_ca_certs=x", "redis://[::1",
    ],
)  # fmt: skip
def test_url_that_cannot_be_used_is_one_sentence_without_the_password(url: str) -> None:
    with pytest.raises(
        BadInput, match=r"the Redis URL cannot be used: .*; give redis://host:6379/0"
    ) as raised:
        parse_redis_url(url)
    assert "pa55" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_address_for_people_holds_no_secret() -> None:
    assert parse_redis_url("rediss://me:pass@host/2").address == "rediss://host:6379/2"


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadInput, match="timeout_s of Redis is 0, and it must be above 0"):
        RedisSettings("host", timeout_s=0)
