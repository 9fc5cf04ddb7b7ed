"""A company's trunks and rules, as many as wanted, and the calls that come to them: what `dispatch.py` measures with.

Ten rules to a trunk, each of another kind; one number that fifty trunks share; one number with every PIN rule of any trunk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from bridge.dispatch.directory import Directory
from bridge.model.caller import Caller
from bridge.model.media import Codec, MediaConfig, MediaEncryption
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import CalleeRule, DirectRule, DispatchRule, IndividualRule, Rule
from bridge.model.trunk import InboundTrunk

CONFERENCE = "+4930999"
SHARED = "+4930888"
SHARERS = 50
LONG = 1000
"""Numbers of the trunk and the rule with long lists."""

OUR_NUMBERS = 100
KINDS = 10


def _number(trunk: int, which: int) -> str:
    return f"+49{trunk:06}{which:02}"


def _address(trunk: int) -> str:
    return f"10.{trunk // 250 % 250}.{trunk % 250}"


def trunks(count: int) -> Iterator[InboundTrunk]:
    """`count` of them: most with three numbers, some with addresses, some for certain callers only, and the special ones."""
    for trunk in range(count - SHARERS - 2):
        yield InboundTrunk(
            sip_trunk_id=f"ST_{trunk:06}",
            name=f"customer {trunk}",
            numbers=tuple(_number(trunk, which) for which in range(3)),
            allowed_addresses=(f"{_address(trunk)}.0/24", f"sip{trunk}.example.com") if trunk % 3 == 0 else (),
            allowed_numbers=tuple(_caller(trunk, which) for which in range(5)) if trunk % 5 == 0 else (),
            media=MediaConfig(encryption=MediaEncryption.SIP_MEDIA_ENCRYPT_ALLOW, codecs=(Codec(name="PCMA"),)) if trunk % 2 else None,
        )
    for sharer in range(SHARERS):
        yield InboundTrunk(sip_trunk_id=f"ST_shared{sharer:02}", numbers=(SHARED,), allowed_numbers=(f"+1555{sharer:04}",))
    yield InboundTrunk(sip_trunk_id="ST_long", numbers=tuple(f"+44{each:07}" for each in range(LONG)))
    yield InboundTrunk(sip_trunk_id="ST_wild", allowed_addresses=("192.0.2.0/24", "2001:db8::/32"))


def _caller(trunk: int, which: int) -> str:
    return f"+1{trunk:06}{which:03}"


def rules(count: int) -> Iterator[DispatchRule]:
    """`count` of them, without a contradiction."""
    for position in range(count):
        trunk, kind = divmod(position, KINDS)
        yield _rule(trunk, kind).model_copy(update={"sip_dispatch_rule_id": f"SDR_{position:06}", "name": f"rule {position}"})


def _rule(trunk: int, kind: int) -> DispatchRule:
    trunk_ids, room = (f"ST_{trunk:06}",), f"room-{trunk}-{kind}"
    direct = Rule(dispatch_rule_direct=DirectRule(room_name=room))
    individual = Rule(dispatch_rule_individual=IndividualRule(room_prefix=room))
    match kind:
        case 0:
            return DispatchRule(rule=individual, trunk_ids=trunk_ids, metadata='{"queue": "all"}', attributes={"tenant": str(trunk)})
        case 1:
            return DispatchRule(rule=Rule(dispatch_rule_direct=DirectRule(room_name=room, pin="4711")), trunk_ids=trunk_ids)
        case 2:
            return DispatchRule(rule=individual, trunk_ids=trunk_ids, numbers=(_number(trunk, 0),), hide_phone_number=trunk % 4 == 0)
        case 3:
            return DispatchRule(
                rule=Rule(dispatch_rule_direct=DirectRule(room_name=room, pin="1234")), trunk_ids=trunk_ids, numbers=(_number(trunk, 1),)
            )
        case 4:
            return DispatchRule(rule=direct, trunk_ids=trunk_ids, inbound_numbers=(_caller(trunk, 0),))
        case 5:
            callee = Rule(dispatch_rule_callee=CalleeRule(room_prefix=room, randomize=True))
            return DispatchRule(rule=callee, trunk_ids=trunk_ids, inbound_numbers=(_caller(trunk, 1),), numbers=(_number(trunk, 0),))
        case 6:
            return DispatchRule(rule=direct, numbers=tuple(f"+33{trunk:06}{which:02}" for which in range(3)))
        case 7:
            pin_rule = Rule(dispatch_rule_direct=DirectRule(room_name=room, pin=f"{trunk:06}"))
            return DispatchRule(rule=pin_rule, numbers=(CONFERENCE,))
        case 8 if trunk == 0:
            return DispatchRule(rule=individual, trunk_ids=("ST_long",), numbers=tuple(f"+44{each:07}" for each in range(LONG)))
        case 8:
            several = tuple(f"ST_{(trunk + step) % 9000:06}" for step in range(3))
            return DispatchRule(rule=direct, trunk_ids=several, numbers=(f"+34{trunk:06}",))
        case _:
            shared = f"ST_shared{trunk:02}" if trunk < SHARERS else f"ST_{trunk:06}"
            numbers = () if trunk < SHARERS else (_number(trunk, 2),)
            return DispatchRule(rule=individual, trunk_ids=(shared,), numbers=numbers)


def directory(rule_count: int, trunk_count: int) -> Directory:
    own = tuple(
        PhoneNumber(e164_format=f"+1800{each:06}", sip_dispatch_rule_id="SDR_000006" if each % 2 else "") for each in range(OUR_NUMBERS)
    )
    return Directory(trunks=tuple(trunks(trunk_count)), rules=tuple(rules(rule_count)), phone_numbers=own)


@dataclass(frozen=True, slots=True)
class Call:
    """One call, and the PIN once the caller was asked."""

    kind: str
    caller: Caller
    pin: str | None = None
    no_pin: bool = False


Maker = Callable[[int, Random], Call]
"""Makes a call to the trunk (and the ten rules) of this number."""


def _to_trunk(kind: str, which: int, caller: Callable[[int], str], pin: str | None = None) -> Maker:
    def make(trunk: int, chance: Random) -> Call:
        source = f"{_address(trunk)}.{chance.randrange(256)}"
        # A trunk with a list of callers admits these only.
        number = _caller(trunk, 2) if trunk % 5 == 0 and which == 1 else caller(trunk)
        return Call(kind, Caller(number, _number(trunk, which), host="sip.example.com", source_address=source), pin)

    return make


def _other(kind: str, called: Callable[[int], str], caller: str, pin: Callable[[int], str] | None = None, *, no_pin: bool = False) -> Maker:
    def make(trunk: int, chance: Random) -> Call:
        source = f"198.51.100.{chance.randrange(256)}"
        return Call(kind, Caller(caller, called(trunk), source_address=source), pin(trunk) if pin is not None else None, no_pin)

    return make


def _shared(trunk: int, chance: Random) -> Call:
    return Call("one number, many trunks", Caller(f"1555{chance.randrange(2 * SHARERS):04}", SHARED, source_address="198.51.100.7"))


def _wild(trunk: int, chance: Random) -> Call:
    source = f"2001:db8::{chance.randrange(65536):x}"
    return Call("wildcard trunk, no rule", Caller("anonymous", f"+99{trunk:06}", source_address=source))


def _long(trunk: int, chance: Random) -> Call:
    return Call("long lists", Caller("+15550100", f"+44{chance.randrange(LONG):07}", source_address="203.0.113.9"))


STRANGER = "+15550100"
MIX: tuple[tuple[int, Maker], ...] = (
    (25, _to_trunk("trunk, individual rule by number", 0, lambda trunk: _caller(trunk, 3))),
    (8, _to_trunk("trunk, rule by caller", 2, lambda trunk: _caller(trunk, 0))),
    (8, _to_trunk("trunk, callee rule by both numbers", 0, lambda trunk: _caller(trunk, 1))),
    (8, _to_trunk("trunk, PIN wanted", 1, lambda trunk: STRANGER)),
    (8, _to_trunk("trunk, PIN right", 1, lambda trunk: STRANGER, "1234")),
    (4, _to_trunk("trunk, PIN wrong", 1, lambda trunk: STRANGER, "0000")),
    (8, _other("no trunk, rule for any", lambda trunk: f"+33{trunk:06}01", STRANGER)),
    (6, _other("many PIN rules on one number, wanted", lambda trunk: CONFERENCE, STRANGER)),
    (6, _other("many PIN rules on one number, right", lambda trunk: CONFERENCE, STRANGER, lambda trunk: f"{trunk:06}")),
    (3, _other("many PIN rules on one number, wrong", lambda trunk: CONFERENCE, STRANGER, lambda trunk: "98765432")),
    (2, _other("many PIN rules on one number, none entered", lambda trunk: CONFERENCE, STRANGER, no_pin=True)),
    (4, _other("number of our own", lambda trunk: f"1800{trunk % OUR_NUMBERS:06}", STRANGER)),
    (3, _other("nothing matches", lambda trunk: f"+88{trunk:06}", STRANGER)),
    (3, _shared),
    (2, _wild),
    (2, _long),
)
"""How often of a hundred, and which."""


def calls(count: int, rule_count: int, seed: int = 1) -> list[Call]:
    """The same mix each time, spread over all trunks that have rules."""
    chance = Random(seed)
    makers = chance.choices([maker for _, maker in MIX], [weight for weight, _ in MIX], k=count)
    busy = max(1, rule_count // KINDS)
    return [maker(chance.randrange(busy) % 9000, chance) for maker in makers]
