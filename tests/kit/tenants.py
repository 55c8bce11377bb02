"""Files of tenants and tokens, and edges that show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloud_node.access.tokens import hash_token, make_token


def token_entry(tenant: str, token: str, **fields: str) -> str:
    """One token as the file lists it; the values of `fields` are TOML."""
    lines = [f"{name} = {value}\n" for name, value in fields.items()]
    return f'[[token]]\ntenant = "{tenant}"\nsha256 = "{hash_token(token).hex()}"\n{"".join(lines)}\n'


def tenant_entry(tenant: str, **fields: Any) -> str:
    lines = [f"{name} = {str(value).lower()}\n" for name, value in fields.items()]
    return f"[tenant.{tenant}]\n{''.join(lines)}\n"


class TokenFile:
    """A file that lists a token of each tenant, with what else is said of them."""

    def __init__(self, path: Path, **tenants: dict[str, Any]) -> None:
        self.path = path
        self.tokens = {name: make_token() for name in tenants}
        self.write(**tenants)

    def write(self, **tenants: dict[str, Any]) -> None:
        """Lists these tenants, with the tokens that they had."""
        tokens = "".join(token_entry(name, self.tokens[name]) for name in tenants)
        self.path.write_text(
            "".join(tenant_entry(name, **fields) for name, fields in tenants.items()) + tokens
        )
