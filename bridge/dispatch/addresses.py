"""Source addresses and the masks that admit them (livekit-sip-semantics.md §2.2 step 2), to the letter of Go's net/netip."""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_INVALID = frozenset("()+*;, \t\r\n")
_LENGTH = re.compile(r"0|[1-9][0-9]*")
_LONGEST_ADDRESS = 256
"""Characters. An IPv6 address has 45, its zone a few more."""


def is_valid_mask(mask: str) -> bool:
    """Whether an entry counts at all; those that do not are passed over, and a list of only such entries admits everyone (trap 2)."""
    return "://" not in mask and _INVALID.isdisjoint(mask)


def parse_address(address: str) -> Address | None:
    """None for what is no IP address."""
    if len(address) > _LONGEST_ADDRESS:
        return None
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


AddressKey = tuple[int, int, str]
"""IP version, the address as a number, its zone: equal for equal addresses."""

_OCTETS = {str(value): value for value in range(256)}


def address_key(address: str) -> AddressKey | None:
    """`parse_address` for look-ups; most callers have an IPv4 address, which is read at a third of the cost."""
    octets = address.split(".", 4)
    if len(octets) == 4:
        try:
            first, second, third, fourth = map(_OCTETS.__getitem__, octets)
        except KeyError:
            pass
        else:
            return 4, first << 24 | second << 16 | third << 8 | fourth, ""
    parsed = parse_address(address)
    return key_of(parsed) if parsed is not None else None


def key_of(address: Address) -> AddressKey:
    return address.version, int(address), zone_of(address)


def parse_mask(mask: str) -> Address | Network | None:
    """An address or a network (host bits allowed); None for a host name or nonsense."""
    if "/" not in mask:
        return parse_address(mask)
    address, _, length = mask.rpartition("/")
    # Python would also take a net mask or "08" behind the slash and a zone before it; Go takes neither.
    if _LENGTH.fullmatch(length) is None or "%" in address or len(mask) > _LONGEST_ADDRESS:
        return None
    try:
        return ipaddress.ip_network(mask, strict=False)
    except ValueError:
        return None


_parse_operators_mask = lru_cache(maxsize=1 << 14)(parse_mask)
"""For what an operator wrote: a bounded number of texts, asked for at each call. What callers send is parsed each time."""


def match_mask(address: str, mask: str) -> bool:
    """An IP address equal to the mask or inside it, same family."""
    source = parse_address(address)
    return source is not None and _admits(_parse_operators_mask(mask), source)


def _admits(mask: Address | Network | None, source: Address) -> bool:
    if isinstance(mask, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return source.version == mask.version and not zone_of(source) and source in mask
    return mask == source


def zone_of(address: Address) -> str:
    """`fe80::1%eth0` is in no network, whatever its bits."""
    return (address.scope_id or "") if isinstance(address, ipaddress.IPv6Address) else ""


def match_masks(address: str, host: str, masks: Sequence[str]) -> bool:
    """Whether a source is admitted. `host` is the From header's host, compared to the letter."""
    source = parse_address(address)
    if source is None:
        return True
    valid = list(valid_masks(masks))
    return not valid or any(mask == host or _admits(_parse_operators_mask(mask), source) for mask in valid)


def valid_masks(masks: Sequence[str]) -> Iterator[str]:
    return (mask for mask in masks if is_valid_mask(mask))
