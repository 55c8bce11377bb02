"""The file of tenants and tokens, changed by a program: what a person wrote in it stays as it is, comments included."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from cloud_node.access.tokens import (
    ID_CHARS,
    MAX_FILE_BYTES,
    KnownToken,
    check_tenant,
    hash_token,
    make_token,
    parse_tokens,
)
from wire.bounded_file import read_file
from wire.errors import BadInput

_HEAD = """\
# Who may call a cloud node: `cleave cloud --tokens FILE`. It is read again when it changes. `cleave token` adds and
# removes tokens; limits are for you to write (0: none), such as:
#
#   [tenant.acme]
#   share = 2.0            # its weight, where tenants wait for the same queue
#   streams = 100          # open at once
#   requests_per_s = 20.0
#   bytes_per_s = 5e6      # of payloads that it sends
#   tokens_per_s = 500.0   # of answers
#   index_items = 100_000  # kept in its indexes
#   metrics = true         # an operator: may see everybody's numbers
"""
_TABLE = re.compile(r"^\s*\[", re.MULTILINE)
_TOKEN_TABLE = re.compile(r"^\s*\[\[\s*token\s*\]\]")


def add_token(path: Path, tenant: str, expires: datetime | None) -> str:
    """A new token, whose hash is in the file now; the file is made where there is none."""
    check_tenant(tenant)
    token = make_token()
    ends = "" if expires is None else f"expires = {expires.isoformat(timespec='seconds')}\n"
    entry = f'\n[[token]]\ntenant = "{tenant}"\nsha256 = "{hash_token(token).hex()}"\n{ends}'
    _change(path, lambda text: (text.rstrip("\n") + "\n" if text else _HEAD) + entry)
    return token


def revoke_token(path: Path, token_id: str) -> KnownToken:
    """Takes a token out of the file; raises BadInput unless exactly one has this id, or begins with it."""
    known = [one for one in list_tokens(path) if one.digest.hex().startswith(token_id.lower())]
    if len(known) != 1 or len(token_id) < 4:
        raise BadInput(
            f"{len(known)} tokens in {path} begin with {token_id[:64]!r}; give the {ID_CHARS} characters that `cleave "
            "token list` shows"
        )
    _change(path, lambda text: _without(text, known[0]))
    return known[0]


def list_tokens(path: Path) -> list[KnownToken]:
    """By tenant."""
    tokens = parse_tokens(_text(path)).tokens.values()
    return sorted(tokens, key=lambda one: (one.tenant, one.digest))


def _without(text: str, gone: KnownToken) -> str:
    """Without the [[token]] table that holds this hash; all else as it is."""
    starts = [match.start() for match in _TABLE.finditer(text)]
    tables = [text[start:end] for start, end in pairwise([*starts, len(text)])]
    kept = [one for one in tables if not (_TOKEN_TABLE.match(one) and gone.digest.hex() in one)]
    changed = "".join([text[: starts[0]] if starts else text, *kept])
    before, after = parse_tokens(text).tokens, parse_tokens(changed).tokens
    if after != {digest: one for digest, one in before.items() if one != gone}:
        raise BadInput(
            "the token is written in a way that only a person can take out; remove its [[token]] by hand"
        )
    return changed


def _text(path: Path) -> str:
    try:
        return read_file(path, "the tokens", MAX_FILE_BYTES).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text in UTF-8; is it the right file?") from error


def _change(path: Path, change: Callable[[str], str]) -> None:
    """Whole, or not at all: a cloud may read it at any moment. One at a time: no change is lost."""
    path = path.resolve()  # a link may be what the cloud was given
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadInput(
            f"{temporary} is there: another `cleave token` is at work, or was stopped; remove it if none is"
        ) from None
    except OSError as error:
        raise BadInput(f"cannot write {temporary}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w") as file:
            if path.exists():
                os.fchmod(descriptor, path.stat().st_mode & 0o777)
            changed = change(_text(path) if path.exists() else "")
            parse_tokens(changed)
            file.write(changed)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
