"""Trunks with a user and a password as PJSIP objects, so that Asterisk challenges their callers (livekit-sip-semantics.md §1.1, §3.2).

For each an auth, an endpoint and what identifies its calls, all named after the trunk; whatever is not named so is the operator's and left
alone. A password is kept as the hash that digest authentication needs. As in LiveKit the challenge depends on the called number, by
`match_request_uri` (Asterisk 20.10, 21.5, 22 and newer); a trunk without numbers is told by its callers' addresses.

The objects outlive us and a restart of Asterisk, so what is there is looked at first. An object can be reached once its auth is there, and
goes before its auth does: at no moment does an endpoint of ours let anybody in unasked.
"""

import asyncio
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from bridge.errors import Unavailable
from bridge.model.credentials import TrunkCredentials
from bridge.model.numbers import normalize_number
from bridge.pbx.asterisk.ari import Ari, ConfigObject, Refused
from bridge.pbx.asterisk.options import AriOptions

log = structlog.get_logger(__name__)

PREFIX: Final = "roomline-trunk-"
"""What is named so is ours."""

NUMBERS_TOGETHER: Final = 100
"""In one identify object (300 were seen to work)."""

AT_ONCE: Final = 8
"""Requests: about a millisecond each."""

SHORTEST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds until what failed is tried again."""

_ENDPOINT: Final = {
    "context": "roomline",
    "disallow": "all",
    "allow": "ulaw,alaw,g722",
    "dtmf_mode": "auto",
    "direct_media": "no",
    "rtp_symmetric": "yes",
    "force_rport": "yes",
    "rewrite_contact": "yes",
}

_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_USER: Final = re.compile(r"[A-Za-z0-9+*#._-]+")
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]+")


def trunk_of(endpoint: str) -> str:
    """The trunk as which an endpoint of ours has authenticated its caller; empty for one that is not ours."""
    return endpoint.removeprefix(PREFIX) if endpoint.startswith(PREFIX) else ""


def cannot_keep(trunk: TrunkCredentials) -> str:
    """Why Asterisk cannot ask this trunk's callers for their credentials; empty when it can. Nobody gets in by a trunk that it cannot
    keep: a caller who is not authenticated as it is refused."""
    if not _ID.fullmatch(trunk.trunk_id):
        return "its id has other characters than letters, digits and _.-, or more than 60"
    if not _TEXT.fullmatch(trunk.username) or not _TEXT.fullmatch(trunk.realm):
        return "its user or realm holds a control character"
    if {'"', "\\"} & set(trunk.username):
        return "its user holds a quotation mark or a backslash, which Asterisk does not read as phones write them"
    if wrong := [number for number in trunk.numbers if not _USER.fullmatch(_plain(number))]:
        return f"its number {wrong[0]!r} cannot be the user of a SIP address"
    if not trunk.numbers and not _networks(trunk.addresses):
        return (
            "it has neither numbers nor addresses by which Asterisk could tell its calls: give it some, or name an endpoint of yours for it"
        )
    return ""


def shared(trunks: Iterable[TrunkCredentials]) -> Mapping[str, str]:
    """Trunks that have a number in common with one before them, and which: Asterisk can ask a call to one number for one trunk's
    credentials only."""
    taken: dict[str, str] = {}
    found: dict[str, str] = {}
    for trunk in trunks:
        for number in trunk.numbers:
            other = taken.setdefault(normalize_number(number), trunk.trunk_id)
            if other != trunk.trunk_id:
                found.setdefault(trunk.trunk_id, other)
    return found


def objects_of(trunk: TrunkCredentials, endpoint: Iterable[tuple[str, str]] = ()) -> tuple[ConfigObject, ...]:
    """In the order in which they are made. `endpoint` goes over our own attributes."""
    name = f"{PREFIX}{trunk.trunk_id}"
    digest = hashlib.md5(f"{trunk.username}:{trunk.realm}:{trunk.password}".encode("utf-8", "surrogatepass"), usedforsecurity=False)
    auth = (("auth_type", "md5"), ("username", trunk.username), ("realm", trunk.realm), ("md5_cred", digest.hexdigest()))
    attributes = {**_ENDPOINT, **dict(endpoint), "auth": name}
    return (
        ConfigObject("auth", name, auth),
        ConfigObject("endpoint", name, tuple(attributes.items())),
        *(ConfigObject("identify", f"{name}-{place}", (("endpoint", name), matched)) for place, matched in enumerate(_matches(trunk))),
    )


def _matches(trunk: TrunkCredentials) -> list[tuple[str, str]]:
    if not trunk.numbers:
        return [("match", network) for network in _networks(trunk.addresses)]
    users = [_pattern(number) for number in dict.fromkeys(map(_plain, trunk.numbers))]
    groups = [users[place : place + NUMBERS_TOGETHER] for place in range(0, len(users), NUMBERS_TOGETHER)]
    return [("match_request_uri", f"/^sips?:({'|'.join(group)})(;[^@]*)?@/") for group in groups]


def _plain(number: str) -> str:
    return normalize_number(number) or number


def _pattern(user: str) -> str:
    """With or without the plus where it is a number; POSIX's extended expressions."""
    escaped = re.sub(r"([.*+])", r"\\\1", user.removeprefix("+")).replace("#", "(#|%23)")
    return (r"\+?" if user.removeprefix("+").isdecimal() else r"\+" if user.startswith("+") else "") + escaped


def _networks(addresses: Iterable[str]) -> list[str]:
    """Those that are addresses or networks: LiveKit's entries may be host names too, which stand in a From header and prove nothing."""
    found = []
    for address in addresses:
        try:
            found.append(str(ipaddress.ip_network(address, strict=False)))
        except ValueError:
            continue
    return found


class Credentials:
    """Keeps Asterisk's objects in step with the trunks; `run` does it, from its own connection."""

    def __init__(self, options: AriOptions, pbx: str) -> None:
        self._options = options
        self._pbx = pbx
        self._wanted: Mapping[str, tuple[ConfigObject, ...]] = {}
        self._there: dict[str, tuple[ConfigObject, ...]] = {}
        """What Asterisk has, as far as it is known; of those with nothing only that there may be something."""
        self._looked = False
        self._news = asyncio.Event()
        self._said: set[tuple[str, str]] = set()
        self.trouble = ""
        """Why Asterisk's objects may be others than the trunks'; empty while all is well."""

    def keep(self, trunks: Iterable[TrunkCredentials]) -> None:
        """These, from now on."""
        wanted = {}
        trunks = list(trunks)
        for trunk in trunks:
            if why := cannot_keep(trunk):
                self._say_once(trunk.trunk_id, why)
            else:
                wanted[trunk.trunk_id] = objects_of(trunk, self._options.endpoint)
        for trunk_id, other in shared(trunks).items():
            self._say_once(trunk_id, f"it shares a number with {other}: Asterisk asks for the credentials of one of them only")
        self._wanted = wanted
        self._news.set()

    def look_again(self) -> None:
        """Asterisk may have been restarted, or restored from somewhere."""
        self._looked = False
        self._news.set()

    def _say_once(self, trunk_id: str, why: str) -> None:
        if (trunk_id, why) not in self._said:
            self._said.add((trunk_id, why))
            log.error("callers of a trunk cannot be asked for their credentials", pbx=self._pbx, trunk=trunk_id, why=why)

    async def run(self) -> None:
        """Returns only when cancelled."""
        wait = SHORTEST_WAIT
        async with Ari(self._options) as ari:
            while True:
                await self._news.wait()
                self._news.clear()
                try:
                    await self._bring_into_step(ari)
                except Unavailable as error:
                    if str(error) != self.trouble:
                        log.error("the trunks' credentials do not reach the PBX: tried again", pbx=self._pbx, error=str(error))
                    self.trouble = str(error)
                    self._news.set()
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, LONGEST_WAIT)
                else:
                    if self.trouble:
                        log.info("the trunks' credentials have reached the PBX", pbx=self._pbx)
                    self.trouble, wait = "", SHORTEST_WAIT

    async def _bring_into_step(self, ari: Ari) -> None:
        wanted = self._wanted
        if not self._looked:
            # Of what is there only the names are known: all of it is made anew, or goes. What was begun is not forgotten either: an auth
            # alone is in no list.
            listed = [trunk_id for name in await ari.endpoints() if (trunk_id := trunk_of(name))]
            self._there = dict.fromkeys((*listed, *self._there), ())
            self._looked = True
        there = self._there
        gone = [trunk_id for trunk_id in there if trunk_id not in wanted]
        new = [trunk_id for trunk_id, objects in wanted.items() if there.get(trunk_id) != objects]
        free = asyncio.Semaphore(AT_ONCE)

        async def bring(trunk_id: str) -> None:
            async with free:
                # Should it break off in the middle, nothing of it is known.
                there[trunk_id] = ()
                if objects := wanted.get(trunk_id):
                    await _put(ari, trunk_id, objects)
                    there[trunk_id] = objects
                else:
                    await _remove(ari, trunk_id)
                    del there[trunk_id]

        # One that Asterisk refuses does not keep the others from it.
        results = await asyncio.gather(*(bring(trunk_id) for trunk_id in (*gone, *new)), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, Unavailable):
                raise failure
        if failures:
            refused = [failure for failure in failures if isinstance(failure, Refused)]
            raise (refused or failures)[0]
        if gone or new:
            log.info("the PBX asks for the trunks' credentials", pbx=self._pbx, trunks=len(wanted), changed=len(new), removed=len(gone))


async def _put(ari: Ari, trunk_id: str, objects: Sequence[ConfigObject]) -> None:
    for made in objects:
        await ari.put(made)
    await _remove_identifies(ari, trunk_id, sum(made.kind == "identify" for made in objects))


async def _remove(ari: Ari, trunk_id: str) -> None:
    await _remove_identifies(ari, trunk_id, 0)
    for kind in ("endpoint", "auth"):
        await ari.delete(ConfigObject(kind, f"{PREFIX}{trunk_id}"))


async def _remove_identifies(ari: Ari, trunk_id: str, first: int) -> None:
    """Those from this place on. They lie in a row: made from its beginning on, and gone from its end on, so that one that breaks off in the
    middle leaves no gap behind which others would be overlooked."""
    end = first
    while await ari.attribute("identify", f"{PREFIX}{trunk_id}-{end}", "endpoint"):
        end += 1
    for place in reversed(range(first, end)):
        await ari.delete(ConfigObject("identify", f"{PREFIX}{trunk_id}-{place}"))
