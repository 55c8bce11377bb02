"""Addresses, host:port: which of them never leave this machine. Pure."""

from __future__ import annotations

from ipaddress import ip_address


def host_of(address: str) -> str:
    """The host of host:port, an IPv6 address without its brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


def is_loopback(address: str) -> bool:
    """Whether only this machine can be at that address, or at all of several with commas; a name may be anywhere."""
    return all(_is_loopback(host_of(one.strip())) for one in address.split(","))


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
