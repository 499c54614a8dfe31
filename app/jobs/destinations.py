"""Where a webhook may go: what a caller names must not lead into the operator's network.

A name is looked up once. Every address that it has is checked, and the connection goes to one of
those that were checked, whatever the name means a moment later.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.errors import InvalidInputError

MAX_URL_LENGTH = 2000

_PORTS = {"https": 443, "http": 80}
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*(?<!-)")
_MAX_NAME_LENGTH = 253
_PLAIN = re.compile(r"[!-~]+")
_TRANSLATED = tuple(
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")
)
"""NAT64, Teredo and 6to4: addresses that count as global and carry any IPv4 address inside."""

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


class ForbiddenAddressError(Exception):
    """A name leads to an address that webhooks may not reach."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL, taken apart; ``target`` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class DestinationRules:
    """What the operator allows.

    Args:
        trusted_hosts: May also be reached by http, and at addresses that are not public.
    """

    def __init__(self, trusted_hosts: Sequence[str], lookup: "Lookup | None" = None) -> None:
        self._trusted_hosts = frozenset(host.lower() for host in trusted_hosts)
        self._lookup = lookup or _look_up

    def parse(self, url: str) -> Destination:
        """Take a URL apart.

        Raises:
            InvalidInputError: It is none, or names a host or an address that is not allowed.
        """
        destination = _split(url)
        if destination.host in self._trusted_hosts:
            return destination
        if destination.scheme != "https":
            raise _refusal("must begin with https://")
        if (address := _to_address(destination.host)) and not is_public(address):
            raise _refusal("must not name an address of a private network")
        return destination

    async def resolve(self, destination: Destination) -> str:
        """Look a host up, and return the address to connect to.

        Raises:
            ForbiddenAddressError: One of its addresses is not public.
            OSError: It has none.
            UnicodeError: It is no name that can be looked up.
        """
        addresses = await self._lookup(destination.host, destination.port)
        if destination.host not in self._trusted_hosts and not all(map(is_public, addresses)):
            raise ForbiddenAddressError(f"{destination.host} leads into a private network")
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, whatever is written inside it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.is_site_local or any(ip in network for network in _TRANSLATED):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _split(url: str) -> Destination:
    if len(url) > MAX_URL_LENGTH or not _PLAIN.fullmatch(url):
        raise _refusal(f"must have up to {MAX_URL_LENGTH} characters of ASCII, without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refusal("is no URL") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise _refusal("must begin with https:// and a host")
    if "@" in parts.netloc:
        raise _refusal("must hold no user name and no password")
    if ":" not in parts.hostname and not _is_name(parts.hostname):
        raise _refusal(
            f"has a host that is no name of up to {_MAX_NAME_LENGTH} characters, 1 to 63 of them"
            " in each part between dots"
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], target)


def _is_name(host: str) -> bool:
    return len(host) <= _MAX_NAME_LENGTH and _NAME.fullmatch(host) is not None


def _to_address(host: str) -> str | None:
    """Return the address that a host is, in every way of writing one that a lookup would take."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433
    except OSError:
        return None


def _refusal(rule: str) -> InvalidInputError:
    return InvalidInputError(f"webhook_url {rule}", "/webhook_url")


async def _look_up(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
