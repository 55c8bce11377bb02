"""Where a cloud is: host:port, or several by IP address, of which the first that answers is used."""

from __future__ import annotations

import ipaddress

from wire.errors import BadInput


def check_address(text: str) -> str:
    """The address, or the list, itself; raises BadInput for what is neither."""
    addresses = text.split(",")
    for address in addresses:
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdigit():
            raise BadInput(f"{text!r} is no address; give host:port, such as 127.0.0.1:50051")
    if len(addresses) > 1:
        target_of(text)
    return text


def target_of(text: str) -> str:
    """What gRPC calls it: a name to be resolved, or a list that is tried in its order."""
    addresses = [address.strip() for address in text.split(",")]
    if len(addresses) == 1:
        return addresses[0]
    versions = {_version(address) for address in addresses}
    if len(versions) > 1 or None in versions:
        raise BadInput(
            f"{text!r} lists names, or addresses of two kinds; list IP addresses of one kind, or give one name"
        )
    return f"ipv{versions.pop()}:{','.join(addresses)}"


def _version(address: str) -> int | None:
    try:
        return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).version
    except ValueError:
        return None
