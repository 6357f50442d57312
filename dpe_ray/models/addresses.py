"""Addresses that a program may ask on behalf of a stranger: public ones, and networks that the user named.

A name is resolved here and the connection goes to the address that was checked, so a name that answers differently the
second time (DNS rebinding) gains nothing. One address of a name that is not public refuses the name.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from dpe_ray.models.rasters import Refusal, RefusedImage

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to its addresses as text. Raises OSError when there is none."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system. It also reads `127.1`, `0x7f.1` and `2130706433` as the address that they mean."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def public_address(host: str, port: int, networks: Sequence[str] = (), resolve: Resolve = resolve) -> str:
    """One address of the host to connect to; `networks` (CIDR) are allowed beside what is public.

    Raises RefusedImage: `address` when any address of the host is neither, `unreachable` when it has none.
    """
    try:
        found = [ipaddress.ip_address(text) for text in await resolve(host, port)]
    except (OSError, ValueError, OverflowError) as error:  # names and ports beyond the rules
        raise RefusedImage(Refusal.UNREACHABLE, f"{host} has no address ({' '.join(str(error).split())})") from error
    allowed = [ipaddress.ip_network(network) for network in networks]
    for address in found:
        if not is_public(address) and not any(address in network for network in allowed):
            raise RefusedImage(Refusal.ADDRESS, f"{host} is {address}, which is not public")
    if not found:
        raise RefusedImage(Refusal.UNREACHABLE, f"{host} has no address")
    return str(found[0])


def is_public(address: IPAddress) -> bool:
    """Whether everyone reaches it: not private, loopback, link-local, multicast, reserved, unspecified or shared.

    An IPv6 address that carries an IPv4 address (mapped, 6to4, Teredo) must carry a public one.
    """
    if isinstance(address, ipaddress.IPv6Address):
        teredo = address.teredo
        carried = address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
        if carried is not None:
            return is_public(carried)
        if address.is_site_local:
            return False
    special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    return address.is_global and not special
