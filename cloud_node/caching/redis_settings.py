"""Which Redis the cache is in, and how long anything may wait for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from wire.errors import BadInput
from wire.limits import MIB

_DEFAULT_PORT = 6379
_EXAMPLE = "redis://host:6379/0, or rediss://user:password@host:6379/0?ssl_ca_certs=FILE for TLS"
_ABOVE_ZERO = (
    "timeout_s", "write_timeout_s", "check_s", "retry_s", "lease_s", "num_connections", "max_waiting",
    "max_value_bytes", "max_pending_bytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """`timeout_s` is what one look-up may cost a request; nobody waits for writes. The password is never shown."""

    host: str
    port: int = _DEFAULT_PORT
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    is_tls: bool = False
    ca_file: str | None = None  # of the authority that its certificate is checked against; None: the system's
    timeout_s: float = 0.05
    write_timeout_s: float = 1.0
    check_s: float = 5.0  # how often its numbers are read while it answers
    retry_s: float = 1.0  # how often it is asked whether it is back
    num_connections: int = 16  # for look-ups; one more writes, and one checks
    max_waiting: int = 512  # look-ups at once; one more is a miss
    max_value_bytes: int = 8 * MIB  # 50 ms bring so much over 1.3 Gbit/s
    max_pending_bytes: int = 64 * MIB  # of values that are still to be written
    lease_s: float = 2.0  # how long a node that died is waited for
    max_follow_s: float = 30.0  # how long one that lives is, at most

    def __post_init__(self) -> None:
        for name in _ABOVE_ZERO:
            if getattr(self, name) <= 0:
                raise BadInput(f"{name} of Redis is {getattr(self, name)}, and it must be above 0")

    @property
    def address(self) -> str:
        """For people: nothing secret in it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.is_tls else 'redis'}://{host}:{self.port}/{self.db}"


def parse_redis_url(url: str) -> RedisSettings:
    """`redis://[[user]:password@]host[:port][/db]`, `rediss://` for TLS. Raises BadInput, which shows none of it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _no_url("it cannot be taken apart") from None
    if parts.scheme not in ("redis", "rediss"):
        raise _no_url("it begins with neither redis:// nor rediss://")
    if not parts.hostname:
        raise _no_url("it names no host")
    if parts.fragment:
        raise _no_url("it holds a #; write %23 in a password")
    db = parts.path.strip("/") or "0"
    if not (db.isascii() and db.isdigit()):
        raise _no_url("what follows the host is no database number")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    ca_file = options.pop("ssl_ca_certs", None)
    if options or (ca_file is not None and parts.scheme == "redis"):
        raise _no_url("ssl_ca_certs, with rediss, is the only option that it may have")
    return RedisSettings(
        host=parts.hostname,
        port=port if port is not None else _DEFAULT_PORT,
        db=int(db),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        is_tls=parts.scheme == "rediss",
        ca_file=ca_file,
    )


def _no_url(why: str) -> BadInput:
    return BadInput(f"the Redis URL cannot be used: {why}; give {_EXAMPLE}")
