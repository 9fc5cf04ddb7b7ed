"""LiveKit's own API for trunks and dispatch rules: the fourteen methods of `livekit.SIP` that keep objects (livekit-sip-semantics.md §1).

What is refused, and in which order, is LiveKit's; `model/validation.py`, `model/change.py` and `dispatch/conflicts.py` know it. Everything
that looks at other objects runs inside the store's change, so that of two who claim the same calls at the same moment one is refused.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, TypeVar

from google.protobuf.message import Message
from livekit.protocol import sip

from bridge.api.access import for_sip_admins
from bridge.api.twirp import Code, Method, TwirpError
from bridge.dispatch.claims import RuleClaims, TrunkClaims
from bridge.dispatch.conflicts import check_own_numbers
from bridge.model.base import LiveKitModel
from bridge.model.change import (
    replaced_inbound_trunk,
    replaced_outbound_trunk,
    replaced_rule,
    updated_inbound_trunk,
    updated_outbound_trunk,
    updated_rule,
)
from bridge.model.list_filter import filter_inbound, filter_outbound, filter_rules
from bridge.model.media import upgraded
from bridge.model.rule import DispatchRule, NewDispatchRule
from bridge.model.trunk import InboundTrunk, LegacyTrunk, OutboundTrunk
from bridge.model.update import InboundTrunkUpdate, OutboundTrunkUpdate, RuleUpdate
from bridge.model.validation import (
    InvalidObject,
    check_inbound_change,
    check_new_inbound_trunk,
    check_new_outbound_trunk,
    check_new_rule,
    check_outbound_change,
    check_rule_change,
)
from bridge.store.inventory import inbound_trunks, outbound_trunks
from bridge.store.port import Edit, Inventory, ObjectStore, StoredObject
from bridge.store.protobuf import of_message, to_message

_Item = TypeVar("_Item", InboundTrunk, OutboundTrunk, LegacyTrunk, DispatchRule)
_Model = TypeVar("_Model", bound=LiveKitModel)
_Object = TypeVar("_Object", InboundTrunk, OutboundTrunk, DispatchRule)

TRUNK_PREFIX, RULE_PREFIX = "ST_", "SDR_"

BREATH = 250
"""Messages made in one go: a millisecond."""


class SipObjects:
    """`methods` are what a `twirp.Service` is made of. `new_letters` gives the random part of an id."""

    def __init__(self, store: ObjectStore, new_letters: Callable[[], str]) -> None:
        self._store = store
        self._new_letters = new_letters
        # A store decides in what thread it likes.
        self._checking = Lock()
        self._trunk_claims = TrunkClaims()
        self._rule_claims = RuleClaims()

    def methods(self) -> Mapping[str, Method]:
        """By the names of LiveKit's service; each for those who may administer SIP."""
        offered: dict[str, Callable[[Any], Any]] = {
            "ListSIPTrunk": self._list_trunks,
            "CreateSIPInboundTrunk": self._create_inbound,
            "CreateSIPOutboundTrunk": self._create_outbound,
            "UpdateSIPInboundTrunk": self._update_inbound,
            "UpdateSIPOutboundTrunk": self._update_outbound,
            "GetSIPInboundTrunk": self._get_inbound,
            "GetSIPOutboundTrunk": self._get_outbound,
            "ListSIPInboundTrunk": self._list_inbound,
            "ListSIPOutboundTrunk": self._list_outbound,
            "DeleteSIPTrunk": self._delete_trunk,
            "CreateSIPDispatchRule": self._create_rule,
            "UpdateSIPDispatchRule": self._update_rule,
            "ListSIPDispatchRule": self._list_rules,
            "DeleteSIPDispatchRule": self._delete_rule,
        }
        return {name: for_sip_admins(method) for name, method in offered.items()}

    # Trunks

    async def _create_inbound(self, asked: sip.CreateSIPInboundTrunkRequest) -> Message:
        trunk = _understood(InboundTrunk, asked.trunk) if asked.HasField("trunk") else None
        check_new_inbound_trunk(trunk)
        made = _present(trunk).model_copy(update={"sip_trunk_id": TRUNK_PREFIX + self._new_letters()})

        def decide(inventory: Inventory) -> Edit:
            self._check_trunk(inventory, made, shown_id="")
            return Edit(put=(made,))

        await self._store.change(decide)
        return to_message(made)

    async def _create_outbound(self, asked: sip.CreateSIPOutboundTrunkRequest) -> Message:
        trunk = _understood(OutboundTrunk, asked.trunk) if asked.HasField("trunk") else None
        check_new_outbound_trunk(trunk)
        made = _present(trunk).model_copy(update={"sip_trunk_id": TRUNK_PREFIX + self._new_letters()})
        await self._store.change(lambda _: Edit(put=(made,)))
        return to_message(made)

    async def _update_inbound(self, asked: sip.UpdateSIPInboundTrunkRequest) -> Message:
        replace = _understood(InboundTrunk, asked.replace) if asked.HasField("replace") else None
        update = _understood(InboundTrunkUpdate, asked.update) if asked.HasField("update") else None
        check_inbound_change(asked.sip_trunk_id, replace, update)
        changed: list[InboundTrunk] = []

        def decide(inventory: Inventory) -> Edit:
            stored = _found(inbound_trunks(inventory), asked.sip_trunk_id, "SIP trunk")
            new = replaced_inbound_trunk(stored, replace) if replace else updated_inbound_trunk(stored, _present(update))
            self._check_trunk(inventory, new, shown_id=new.sip_trunk_id)
            changed[:] = [new]
            return Edit(put=(new,))

        await self._store.change(decide)
        return to_message(changed[0])

    async def _update_outbound(self, asked: sip.UpdateSIPOutboundTrunkRequest) -> Message:
        replace = _understood(OutboundTrunk, asked.replace) if asked.HasField("replace") else None
        update = _understood(OutboundTrunkUpdate, asked.update) if asked.HasField("update") else None
        check_outbound_change(asked.sip_trunk_id, replace, update)

        def apply(stored: OutboundTrunk) -> OutboundTrunk:
            return replaced_outbound_trunk(stored, replace) if replace else updated_outbound_trunk(stored, _present(update))

        return await self._applied(lambda inventory: _found(outbound_trunks(inventory), asked.sip_trunk_id, "SIP trunk"), apply)

    async def _get_inbound(self, asked: sip.GetSIPInboundTrunkRequest) -> Message:
        found = await self._one(inbound_trunks, asked.sip_trunk_id)
        return sip.GetSIPInboundTrunkResponse(trunk=to_message(found))  # type: ignore[arg-type]  # it is of the class that belongs to the model

    async def _get_outbound(self, asked: sip.GetSIPOutboundTrunkRequest) -> Message:
        found = await self._one(outbound_trunks, asked.sip_trunk_id)
        return sip.GetSIPOutboundTrunkResponse(trunk=to_message(found))  # type: ignore[arg-type]  # as above

    async def _one(self, kind: Callable[[Inventory], Mapping[str, _Item]], object_id: str) -> _Item:
        if not object_id:
            raise InvalidObject("the id of the trunk is missing")
        return _found(kind(await self._store.read()), object_id, "SIP trunk")

    async def _list_inbound(self, asked: sip.ListSIPInboundTrunkRequest) -> Message:
        items = _page(inbound_trunks(await self._store.read()), asked.page.after_id, asked.trunk_ids)
        kept = filter_inbound(items, (), asked.numbers)
        return sip.ListSIPInboundTrunkResponse(items=await _messages(kept))

    async def _list_outbound(self, asked: sip.ListSIPOutboundTrunkRequest) -> Message:
        items = _page(outbound_trunks(await self._store.read()), asked.page.after_id, asked.trunk_ids)
        kept = filter_outbound(items, (), asked.numbers)
        return sip.ListSIPOutboundTrunkResponse(items=await _messages(kept))

    async def _list_trunks(self, asked: sip.ListSIPTrunkRequest) -> Message:
        """Of every kind, in the oldest one's form (§1.5)."""
        inventory = await self._store.read()
        all_of_them = {trunk_id: LegacyTrunk.from_outbound(trunk) for trunk_id, trunk in inventory.outbound_trunks.items()}
        all_of_them |= {trunk_id: LegacyTrunk.from_inbound(trunk) for trunk_id, trunk in inventory.inbound_trunks.items()}
        all_of_them |= dict(inventory.legacy_trunks)
        return sip.ListSIPTrunkResponse(items=await _messages(_page(all_of_them, asked.page.after_id, ())))

    async def _delete_trunk(self, asked: sip.DeleteSIPTrunkRequest) -> Message:
        """Of whatever kind; one that is not there is no error (trap 13)."""
        if not asked.sip_trunk_id:
            raise InvalidObject("the id of the trunk is missing")
        kinds: tuple[type[StoredObject], ...] = (InboundTrunk, OutboundTrunk, LegacyTrunk)
        await self._store.change(lambda _: Edit(delete=tuple((kind, asked.sip_trunk_id) for kind in kinds)))
        return sip.SIPTrunkInfo(sip_trunk_id=asked.sip_trunk_id)

    # Rules

    async def _create_rule(self, asked: sip.CreateSIPDispatchRuleRequest) -> Message:
        new = _understood(NewDispatchRule, asked)
        check_new_rule(new)
        rule = new.as_rule().model_copy(update={"sip_dispatch_rule_id": RULE_PREFIX + self._new_letters()})
        if new.dispatch_rule is not None:  # the old form is kept as it came (§1.8)
            rule = rule.model_copy(update={"media": upgraded(rule.media, rule.media_encryption)})

        def decide(inventory: Inventory) -> Edit:
            self._check_rule(inventory, rule, shown_id="", among=new.trunk_ids)
            return Edit(put=(rule,))

        await self._store.change(decide)
        return to_message(rule)

    async def _update_rule(self, asked: sip.UpdateSIPDispatchRuleRequest) -> Message:
        replace = _understood(DispatchRule, asked.replace) if asked.HasField("replace") else None
        update = _understood(RuleUpdate, asked.update) if asked.HasField("update") else None
        check_rule_change(asked.sip_dispatch_rule_id, replace, update)
        changed: list[DispatchRule] = []

        def decide(inventory: Inventory) -> Edit:
            stored = _found(inventory.dispatch_rules, asked.sip_dispatch_rule_id, "SIP dispatch rule")
            new = replaced_rule(stored, replace) if replace else updated_rule(stored, _present(update))
            self._check_rule(inventory, new, shown_id=new.sip_dispatch_rule_id)
            changed[:] = [new]
            return Edit(put=(new,))

        await self._store.change(decide)
        return to_message(changed[0])

    async def _list_rules(self, asked: sip.ListSIPDispatchRuleRequest) -> Message:
        items = _page((await self._store.read()).dispatch_rules, asked.page.after_id, asked.dispatch_rule_ids)
        kept = filter_rules(items, (), asked.trunk_ids)
        return sip.ListSIPDispatchRuleResponse(items=await _messages(kept))

    async def _delete_rule(self, asked: sip.DeleteSIPDispatchRuleRequest) -> Message:
        if not asked.sip_dispatch_rule_id:
            raise InvalidObject("the id of the rule is missing")
        deleted: list[DispatchRule] = []

        def decide(inventory: Inventory) -> Edit:
            deleted[:] = [_found(inventory.dispatch_rules, asked.sip_dispatch_rule_id, "SIP dispatch rule")]
            return Edit(delete=((DispatchRule, asked.sip_dispatch_rule_id),))

        await self._store.change(decide)
        return to_message(deleted[0])

    def _check_trunk(self, inventory: Inventory, trunk: InboundTrunk, *, shown_id: str) -> None:
        """§2.3. `shown_id`: empty for a new one, which LiveKit calls `<new>`. Raises Conflict."""
        with self._checking:
            self._trunk_claims.check(inbound_trunks(inventory), trunk, shown_id)
        shown = trunk.model_copy(update={"sip_trunk_id": shown_id})
        check_own_numbers([shown], inventory.phone_numbers.values())

    def _check_rule(self, inventory: Inventory, rule: DispatchRule, *, shown_id: str, among: Sequence[str] = ()) -> None:
        """§2.5. Raises Conflict."""
        with self._checking:
            self._rule_claims.check(inventory.dispatch_rules, rule, shown_id, among)

    async def _applied(self, find: Callable[[Inventory], _Object], apply: Callable[[_Object], _Object]) -> Message:
        """An update whose result LiveKit checks only after it was applied: what it finds then has no code of its own (§1.9)."""
        changed: list[_Object] = []

        def decide(inventory: Inventory) -> Edit:
            stored = find(inventory)
            try:
                changed[:] = [apply(stored)]
            except InvalidObject as error:
                raise TwirpError(Code.UNKNOWN, str(error)) from None
            return Edit(put=(changed[0],))

        await self._store.change(decide)
        return to_message(changed[0])


def _understood(model: type[_Model], message: Message) -> _Model:
    return of_message(model, message)


def _present(value: _Model | None) -> _Model:
    if value is None:
        raise RuntimeError("checked to be there before")
    return value


def _found(items: Mapping[str, _Item], object_id: str, what: str) -> _Item:
    try:
        return items[object_id]
    except KeyError:
        raise TwirpError(Code.NOT_FOUND, f"requested {what} does not exist") from None


def _page(items: Mapping[str, _Item], after_id: str, ids: Iterable[str]) -> list[_Item]:
    """By id, those after `after_id`, and of these ids where there are any; a limit limits nothing (§1.10, trap 14)."""
    wanted = set(ids)
    return [items[each] for each in sorted(wanted & items.keys() if wanted else items) if each > after_id]


async def _messages(items: Iterable[_Item | None]) -> list[Any]:
    """With a breath after some: calls have their turn while many are made."""
    made = []
    for place, item in enumerate(items):
        if item is not None:
            made.append(to_message(item))
        if place % BREATH == BREATH - 1:
            await asyncio.sleep(0)
    return made
