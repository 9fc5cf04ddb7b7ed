"""Source addresses and the masks that admit them (livekit-sip-semantics.md §2.2 step 2)."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

_INVALID = frozenset("()+*;, \t\r\n")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_valid_mask(mask: str) -> bool:
    """Whether an entry counts at all; those that do not are passed over, and a list of only such entries admits everyone (trap 2)."""
    return "://" not in mask and _INVALID.isdisjoint(mask)


@lru_cache(maxsize=1 << 14)
def parse_address(address: str) -> _Address | None:
    """None for what is no IP address."""
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


@lru_cache(maxsize=1 << 14)
def _parse_network(mask: str) -> _Network | None:
    if "/" not in mask:
        return None
    prefix = mask.rpartition("/")[2]
    # Python would also take a net mask behind the slash; Go takes a length only.
    if not (prefix.isascii() and prefix.isdigit()):
        return None
    try:
        return ipaddress.ip_network(mask, strict=False)
    except ValueError:
        return None


def match_mask(address: str, mask: str) -> bool:
    """An IP address equal to the mask or inside it, same family."""
    source = parse_address(address)
    if source is None:
        return False
    network = _parse_network(mask)
    if network is not None:
        return source.version == network.version and source in network
    return parse_address(mask) == source


def match_masks(address: str, host: str, masks: Sequence[str]) -> bool:
    """Whether a source is admitted. `host` is the From header's host, compared to the letter."""
    if parse_address(address) is None:
        return True
    valid = [mask for mask in masks if is_valid_mask(mask)]
    return not valid or any(mask == host or match_mask(address, mask) for mask in valid)
