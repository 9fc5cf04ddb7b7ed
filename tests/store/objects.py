"""Objects and stores that the tests of this folder share."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import UTC, datetime

import pytest

from bridge.model.media import Codec, MediaConfig
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import CalleeRule, DirectRule, DispatchRule, Rule
from bridge.model.trunk import HeaderOptions, InboundTrunk, LegacyTrunk, OutboundTrunk
from bridge.store.inventory import BY_MODEL, edited
from bridge.store.port import Edit, Inventory, ObjectStore, StoredObject
from bridge.testing.redis_server import NoRedis, get_redis_server

OpenStore = Callable[[], AbstractAsyncContextManager[ObjectStore]]
"""Opens one more instance over the same objects."""


@contextmanager
def needs_redis() -> Iterator[None]:
    """Where there is none the test is skipped; in CI it fails."""
    try:
        get_redis_server()
    except NoRedis as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    yield


NOON = datetime(2026, 11, 20, 12, 0, 0, 123000, tzinfo=UTC)


def rule(rule_id: str = "SDR_a", room: str = "lobby", pin: str = "", **values: object) -> DispatchRule:
    kind = Rule(dispatch_rule_direct=DirectRule(room_name=room, pin=pin))
    return DispatchRule.model_validate({"sip_dispatch_rule_id": rule_id, "rule": kind, **values})


def room_of(inventory: Inventory, rule_id: str = "SDR_a") -> str:
    found = inventory.dispatch_rules[rule_id].rule
    assert found is not None
    assert found.dispatch_rule_direct is not None
    return found.dispatch_rule_direct.room_name


def put(*objects: StoredObject) -> Callable[[Inventory], Edit]:
    return lambda _: Edit(put=objects)


def delete(found: StoredObject) -> Callable[[Inventory], Edit]:
    kind = BY_MODEL[type(found)]
    return lambda _: Edit(delete=((kind.model, kind.id_of(found)),))


async def next_where(changes: AsyncIterator[Inventory], fits: Callable[[Inventory], bool]) -> Inventory:
    async for inventory in changes:
        if fits(inventory):
            return inventory
    raise AssertionError("the changes ended")


ONE_OF_EACH: tuple[StoredObject, ...] = (
    InboundTrunk(
        sip_trunk_id="ST_in",
        name="ü☎ 中文",
        metadata='{"a": 1}\n',
        numbers=("+15550100", ""),
        allowed_addresses=("203.0.113.0/24",),
        allowed_numbers=("alice",),
        auth_username="user",
        auth_password="pässword",
        auth_realm="realm",
        headers={"X-A": "1"},
        headers_to_attributes={"X-B": "b"},
        attributes_to_headers={"c": "X-C"},
        include_headers=HeaderOptions.SIP_ALL_HEADERS,
        ringing_timeout="30s",
        ringing_timeout_status=404,
        max_call_duration="3600.5s",
        krisp_enabled=True,
        media=MediaConfig(codecs=(Codec(name="opus", rate=48000),)),
        created_at=NOON,
        updated_at=NOON,
    ),
    OutboundTrunk(sip_trunk_id="ST_out", address="sip.example.com", numbers=("+1",), from_host="example.com", created_at=NOON),
    LegacyTrunk(sip_trunk_id="ST_old", outbound_number="+15550111", inbound_numbers=("+1",), inbound_password="x"),
    rule("SDR_direct", pin="80428617", attributes={"k": "v"}, room_config={"agents": [{"agent_name": "a"}]}),
    DispatchRule(
        sip_dispatch_rule_id="SDR_callee",
        rule=Rule(dispatch_rule_callee=CalleeRule(room_prefix="p", randomize=True)),
        trunk_ids=("ST_in", "ST_in"),
        hide_phone_number=True,
        inbound_numbers=("+1",),
        numbers=("2",),
        name="n",
        room_preset="preset",
        krisp_enabled=True,
    ),
    DispatchRule(sip_dispatch_rule_id="SDR_of_no_kind"),
    PhoneNumber(id="PN_1", e164_format="+15550199", country_code="US", capabilities=("voice",), sip_dispatch_rule_id="SDR_direct"),
)


def everything() -> Inventory:
    return edited(Inventory(), Edit(put=ONE_OF_EACH))
