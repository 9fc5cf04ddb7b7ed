"""LiveKit's phone number service over the operator's own numbers (livekit-sip-semantics.md §8.2). Nobody is paid.

A number with the status RELEASED is there to be had: search lists it, purchase makes it ours, as an object of its own, so that one that
stands in a file can be had too. Ours is active with a rule of its own, and called offline without one: calls to it are taken all the same.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from bridge.api.access import for_sip_admins
from bridge.api.phone_number_messages import message_class
from bridge.api.twirp import Code, Method, TwirpError
from bridge.dispatch.conflicts import check_own_numbers
from bridge.dispatch.numbers import normalize_number
from bridge.model.phone_number import PhoneNumber, PhoneNumberStatus
from bridge.model.validation import InvalidObject
from bridge.store.inventory import inbound_trunks
from bridge.store.port import Edit, Inventory, ObjectStore

PREFIX: Final = "PN_"

PAGE: Final = 50
"""Numbers in an answer where nobody says how many."""

LARGEST_PAGE: Final = 1000

_RELEASED = PhoneNumberStatus.PHONE_NUMBER_STATUS_RELEASED
_OFFLINE = PhoneNumberStatus.PHONE_NUMBER_STATUS_OFFLINE
_ACTIVE = PhoneNumberStatus.PHONE_NUMBER_STATUS_ACTIVE


class PhoneNumbers:
    """`methods` are what a `twirp.Service` is made of. `new_letters` gives the random part of an id, `now` the time with its zone."""

    def __init__(self, store: ObjectStore, new_letters: Callable[[], str], now: Callable[[], datetime]) -> None:
        self._store = store
        self._new_letters = new_letters
        self._now = now

    def methods(self) -> dict[str, Method]:
        """By the names of LiveKit's service; each for those who may administer SIP."""
        offered: dict[str, Callable[[Any], Any]] = {
            "SearchPhoneNumbers": self._search,
            "PurchasePhoneNumber": self._purchase,
            "ListPhoneNumbers": self._list,
            "GetPhoneNumber": self._get,
            "UpdatePhoneNumber": self._update,
            "ReleasePhoneNumbers": self._release,
        }
        return {name: for_sip_admins(method) for name, method in offered.items()}

    async def _search(self, asked: Any) -> Message:
        """One of which the operator has not said the country or area is found whichever is asked for."""
        if not asked.country_code:
            raise InvalidObject("the country code is missing")
        found = [
            number
            for number in _to_be_had(await self._store.read())
            if number.country_code.upper() in ("", asked.country_code.upper()) and _fits(number.area_code, asked.area_code)
        ]
        return _paged("SearchPhoneNumbersResponse", found, asked)

    async def _purchase(self, asked: Any) -> Message:
        """All of them or none."""
        if not asked.phone_numbers:
            raise InvalidObject("the phone numbers are missing")
        ids = {normalize_number(number): PREFIX + self._new_letters() for number in asked.phone_numbers}
        bought: list[PhoneNumber] = []

        def decide(inventory: Inventory) -> Edit:
            free = {normalize_number(number.e164_format): number for number in _to_be_had(inventory)}
            ours = {normalize_number(number.e164_format) for number in _ours(inventory)}
            for number in ids:
                if number in ours:
                    raise TwirpError(Code.ALREADY_EXISTS, f"phone number {number} is assigned already")
                if number not in free:
                    raise TwirpError(Code.NOT_FOUND, f"phone number {number} is not in the inventory, which the operator fills")
            bought[:] = [self._assigned(free[number], new_id, asked.sip_dispatch_rule_id) for number, new_id in ids.items()]
            _check_rule(inventory, asked.sip_dispatch_rule_id)
            check_own_numbers(inbound_trunks(inventory).values(), bought)
            return Edit(put=tuple(bought))

        await self._store.change(decide)
        answer: Message = message_class("PurchasePhoneNumberResponse")(phone_numbers=map(_message, bought))
        return answer

    def _assigned(self, free: PhoneNumber, new_id: str, rule_id: str) -> PhoneNumber:
        now = self._now()
        times = {"created_at": free.created_at or now, "updated_at": now, "assigned_at": now, "released_at": None}
        return _with_rule(free.model_copy(update={"id": new_id, **times}), rule_id)

    async def _list(self, asked: Any) -> Message:
        """Ours, where no status is asked for."""
        inventory = await self._store.read()
        of_rule = [
            number
            for number in (*_ours(inventory), *_to_be_had(inventory))
            if not asked.HasField("sip_dispatch_rule_id") or number.sip_dispatch_rule_id == asked.sip_dispatch_rule_id
        ]
        wanted = set(asked.statuses)
        found = [number for number in of_rule if (_status(number) in wanted if wanted else _status(number) is not _RELEASED)]
        offline = sum(_status(number) is _OFFLINE for number in found)
        return _paged("ListPhoneNumbersResponse", found, asked, total_count=len(found), offline_count=offline)

    async def _get(self, asked: Any) -> Message:
        found = _named(await self._store.read(), asked.id, asked.phone_number)
        answer: Message = message_class("GetPhoneNumberResponse")(phone_number=_message(found))
        return answer

    async def _update(self, asked: Any) -> Message:
        """An empty rule takes the number its own one away."""
        if not asked.HasField("sip_dispatch_rule_id"):
            raise InvalidObject("the dispatch rule is missing: nothing else of a phone number can be changed")
        changed: list[PhoneNumber] = []

        def decide(inventory: Inventory) -> Edit:
            number = _our_own(_named(inventory, asked.id, asked.phone_number))
            _check_rule(inventory, asked.sip_dispatch_rule_id)
            changed[:] = [_with_rule(number.model_copy(update={"updated_at": self._now()}), asked.sip_dispatch_rule_id)]
            return Edit(put=tuple(changed))

        await self._store.change(decide)
        answer: Message = message_class("UpdatePhoneNumberResponse")(phone_number=_message(changed[0]))
        return answer

    async def _release(self, asked: Any) -> Message:
        """All of them or none. They can be had again."""
        if not asked.ids and not asked.phone_numbers:
            raise InvalidObject("the ids or the phone numbers are missing")

        def decide(inventory: Inventory) -> Edit:
            named = [_named(inventory, each, "") for each in asked.ids] + [_named(inventory, "", each) for each in asked.phone_numbers]
            released = {number.id: _our_own(number) for number in named}
            free = {normalize_number(number.e164_format) for number in inventory.phone_numbers.values() if number.status is _RELEASED}
            gone = [number for number in released.values() if normalize_number(number.e164_format) in free]
            left = [number for number in released.values() if number not in gone]
            now = self._now()
            new = {"status": _RELEASED, "sip_dispatch_rule_id": "", "released_at": now, "updated_at": now, "assigned_at": None}
            return Edit(
                put=tuple(number.model_copy(update=new) for number in left), delete=tuple((PhoneNumber, number.id) for number in gone)
            )

        await self._store.change(decide)
        answer: Message = message_class("ReleasePhoneNumbersResponse")()
        return answer


def _ours(inventory: Inventory) -> Iterator[PhoneNumber]:
    return (number for number in inventory.phone_numbers.values() if number.status is not _RELEASED)


def _to_be_had(inventory: Inventory) -> list[PhoneNumber]:
    """Each number once, however many objects of it there are."""
    ours = {normalize_number(number.e164_format) for number in _ours(inventory)}
    free = {normalize_number(number.e164_format): number for number in inventory.phone_numbers.values() if number.status is _RELEASED}
    return [number for normal, number in free.items() if normal not in ours]


def _named(inventory: Inventory, number_id: str, e164: str) -> PhoneNumber:
    """By its id, else by the number itself: ours before one that can be had. Raises InvalidObject, TwirpError."""
    if not number_id and not e164:
        raise InvalidObject("the id or the phone number is missing")
    found = inventory.phone_numbers.get(number_id) if number_id else None
    if not number_id:
        normal = normalize_number(e164)
        both = (*_ours(inventory), *_to_be_had(inventory))
        found = next((number for number in both if normalize_number(number.e164_format) == normal), None)
    if found is None:
        raise _missing()
    return found


def _our_own(number: PhoneNumber) -> PhoneNumber:
    if number.status is _RELEASED:
        raise _missing()
    return number


def _missing() -> TwirpError:
    return TwirpError(Code.NOT_FOUND, "requested phone number does not exist")


def _check_rule(inventory: Inventory, rule_id: str) -> None:
    """A rule that no call to a number of ours could match is refused. Raises InvalidObject, TwirpError."""
    if not rule_id:
        return
    rule = inventory.dispatch_rules.get(rule_id)
    if rule is None:
        raise TwirpError(Code.NOT_FOUND, "requested SIP dispatch rule does not exist")
    if rule.trunk_ids:
        raise InvalidObject(f"the dispatch rule {rule_id} is for calls through trunks; a call to a phone number has none")


def _with_rule(number: PhoneNumber, rule_id: str) -> PhoneNumber:
    return number.model_copy(update={"sip_dispatch_rule_id": rule_id, "status": _ACTIVE if rule_id else _OFFLINE})


def _status(number: PhoneNumber) -> PhoneNumberStatus:
    """As LiveKit tells it: an operator's file says `active`, or nothing, of all that are theirs."""
    return number.status if number.status is _RELEASED or not number.takes_calls else _ACTIVE if number.sip_dispatch_rule_id else _OFFLINE


def _message(number: PhoneNumber) -> Any:
    fields = number.model_dump(mode="json", exclude_none=True)
    fields["status"] = _status(number).name
    fields["sip_dispatch_rule_ids"] = [number.sip_dispatch_rule_id] if number.sip_dispatch_rule_id else []
    return ParseDict(fields, message_class("PhoneNumber")())


def _paged(answer: str, numbers: Iterable[PhoneNumber], asked: Any, **more: int) -> Message:
    """By id, those after the token's. Raises InvalidObject."""
    limit = asked.limit if asked.HasField("limit") else PAGE
    if limit < 0:
        raise InvalidObject("the limit is negative")
    after = _id_of(asked.page_token.token) if asked.HasField("page_token") else ""
    items: Sequence[PhoneNumber] = sorted((number for number in numbers if number.id > after), key=lambda number: number.id)
    page = items[: min(limit or PAGE, LARGEST_PAGE)]
    message: Message = message_class(answer)(items=map(_message, page), **more)
    if len(page) < len(items):
        message.next_page_token.token = base64.urlsafe_b64encode(page[-1].id.encode()).decode()  # type: ignore[attr-defined]  # made at run time
    return message


def _id_of(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, ValueError):
        raise InvalidObject("the page token is none of ours") from None


def _fits(said: str, asked: str) -> bool:
    return not asked or said in ("", asked)
