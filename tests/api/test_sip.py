"""LiveKit's own client against the fourteen methods that keep trunks and rules (livekit-sip-semantics.md §1)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from livekit import api
from livekit.protocol import models, sip
from livekit.protocol.models import ListUpdate
from pydantic import SecretStr

from bridge.api.auth import Keys
from bridge.api.sip import SipObjects
from bridge.api.twirp import Service, Twirp
from bridge.call.registry import random_letters
from bridge.errors import Unavailable
from bridge.model.trunk import InboundTrunk, LegacyTrunk
from bridge.store.port import Edit, ObjectStore, ReadOnlyObject
from bridge.store.sqlite_objects import SqliteObjects

CLEAR = ListUpdate(clear=True)
SECRET = "a-secret-of-thirty-two-characters!"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteObjects]:
    async with SqliteObjects(tmp_path / "roomline.db") as store:
        yield store


@asynccontextmanager
async def serving(store: ObjectStore) -> AsyncIterator[str]:
    service = Service(sip.DESCRIPTOR.services_by_name["SIP"], SipObjects(store, random_letters).methods())
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", Twirp([service], Keys({"devkey": SecretStr(SECRET)})).handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def livekit(store: SqliteObjects) -> AsyncIterator[Any]:
    async with serving(store) as url, api.LiveKitAPI(url, "devkey", SECRET) as client:
        yield client.sip


def inbound(*numbers: str, **fields: Any) -> sip.SIPInboundTrunkInfo:
    return sip.SIPInboundTrunkInfo(numbers=numbers, **fields)


def direct(room: str, **fields: Any) -> sip.SIPDispatchRuleInfo:
    return sip.SIPDispatchRuleInfo(rule=sip.SIPDispatchRule(dispatch_rule_direct=sip.SIPDispatchRuleDirect(room_name=room)), **fields)


async def create_inbound(livekit: Any, *numbers: str, **fields: Any) -> sip.SIPInboundTrunkInfo:
    made: sip.SIPInboundTrunkInfo = await livekit.create_inbound_trunk(sip.CreateSIPInboundTrunkRequest(trunk=inbound(*numbers, **fields)))
    return made


async def get_inbound(livekit: Any, trunk_id: str) -> sip.GetSIPInboundTrunkResponse:
    asked = sip.GetSIPInboundTrunkRequest(sip_trunk_id=trunk_id)
    got: sip.GetSIPInboundTrunkResponse = await answered(livekit, "GetSIPInboundTrunk", asked, sip.GetSIPInboundTrunkResponse)
    return got


async def get_outbound(livekit: Any, trunk_id: str) -> sip.GetSIPOutboundTrunkResponse:
    asked = sip.GetSIPOutboundTrunkRequest(sip_trunk_id=trunk_id)
    got: sip.GetSIPOutboundTrunkResponse = await answered(livekit, "GetSIPOutboundTrunk", asked, sip.GetSIPOutboundTrunkResponse)
    return got


async def answered(livekit: Any, method: str, asked: Any, answer: type[Any]) -> Any:
    """For what the service has and the client's own methods have not: getting a trunk, and the `clear` of a list, which they drop."""
    return await livekit._client.request("SIP", method, asked, livekit._admin_headers(), answer)


async def create_rule(livekit: Any, rule: sip.SIPDispatchRuleInfo) -> sip.SIPDispatchRuleInfo:
    made: sip.SIPDispatchRuleInfo = await livekit.create_dispatch_rule(sip.CreateSIPDispatchRuleRequest(dispatch_rule=rule))
    return made


@asynccontextmanager
async def refused(code: str, what: str = "") -> AsyncIterator[None]:
    with pytest.raises(api.TwirpError) as raised:
        yield
    assert (raised.value.code, what in raised.value.message) == (code, True), raised.value.message


async def test_given_an_inbound_trunk_then_it_lives_from_create_to_delete(livekit: Any) -> None:
    sent = inbound("+15550100", name="a", auth_username="u", auth_password="p", ringing_timeout=Duration(seconds=12, nanos=500_000_000))
    sent.headers["X-A"] = "b"
    made = await livekit.create_inbound_trunk(sip.CreateSIPInboundTrunkRequest(trunk=sent))
    assert made.sip_trunk_id.startswith("ST_")
    assert len(made.sip_trunk_id) == 15
    sent.sip_trunk_id = made.sip_trunk_id
    assert made == sent  # the password in clear among the rest (trap 14)
    got = await get_inbound(livekit, made.sip_trunk_id)
    assert got.trunk == made
    changed = await livekit.update_inbound_trunk_fields(made.sip_trunk_id, name="b", numbers=ListUpdate(add=["+15550101"]))
    assert (changed.name, list(changed.numbers), changed.auth_password) == ("b", ["+15550100", "+15550101"], "p")
    replaced = await livekit.update_inbound_trunk(made.sip_trunk_id, inbound("+15550102"))
    assert (replaced.sip_trunk_id, list(replaced.numbers), replaced.name) == (made.sip_trunk_id, ["+15550102"], "")
    gone = await livekit.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id=made.sip_trunk_id))
    assert gone == sip.SIPTrunkInfo(sip_trunk_id=made.sip_trunk_id)
    async with refused("not_found", "does not exist"):
        await get_inbound(livekit, made.sip_trunk_id)
    await livekit.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id="ST_nobody"))  # trap 13


async def test_given_an_outbound_trunk_then_it_lives_from_create_to_delete(livekit: Any) -> None:
    sent = sip.SIPOutboundTrunkInfo(address="sip.example.com", numbers=["+1"], transport=sip.SIP_TRANSPORT_TLS)
    made = await livekit.create_outbound_trunk(sip.CreateSIPOutboundTrunkRequest(trunk=sent))
    got = await get_outbound(livekit, made.sip_trunk_id)
    assert got.trunk == made
    changed = await livekit.update_outbound_trunk_fields(made.sip_trunk_id, address="other.example.com")
    assert (changed.address, changed.transport) == ("other.example.com", sip.SIP_TRANSPORT_TLS)
    async with refused("unknown", "number"):  # found only after it was applied (§1.9)
        cleared = sip.SIPOutboundTrunkUpdate(numbers=CLEAR)
        asked = sip.UpdateSIPOutboundTrunkRequest(sip_trunk_id=made.sip_trunk_id, update=cleared)
        await answered(livekit, "UpdateSIPOutboundTrunk", asked, sip.SIPOutboundTrunkInfo)
    listed = await livekit.list_outbound_trunk(sip.ListSIPOutboundTrunkRequest(numbers=["+1"]))
    assert list(listed.items) == [changed]
    await livekit.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id=made.sip_trunk_id))
    assert not (await livekit.list_outbound_trunk(sip.ListSIPOutboundTrunkRequest())).items


async def test_given_a_rule_then_it_lives_from_create_to_delete(livekit: Any) -> None:
    made = await create_rule(livekit, direct("lobby", name="a", attributes={"x": "1", "y": "2"}))
    assert made.sip_dispatch_rule_id.startswith("SDR_")
    assert made.HasField("media")  # §1.8
    changed = await livekit.update_dispatch_rule_fields(made.sip_dispatch_rule_id, metadata="m", attributes={"x": "", "z": "3"})
    assert (changed.metadata, dict(changed.attributes), changed.name) == ("m", {"y": "2", "z": "3"}, "a")
    replaced = await livekit.update_dispatch_rule(made.sip_dispatch_rule_id, direct("hall"))
    assert (replaced.rule.dispatch_rule_direct.room_name, replaced.name) == ("hall", "")
    gone = await livekit.delete_dispatch_rule(sip.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=made.sip_dispatch_rule_id))
    assert gone == replaced
    async with refused("not_found"):
        await livekit.delete_dispatch_rule(sip.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=made.sip_dispatch_rule_id))


async def test_given_the_deprecated_form_then_the_rule_is_the_same_and_kept_as_it_came(livekit: Any) -> None:
    old = sip.CreateSIPDispatchRuleRequest(rule=direct("lobby").rule, name="old", trunk_ids=["ST_a"], inbound_numbers=["+1"])
    made = await livekit.create_dispatch_rule(old)
    assert (made.name, list(made.trunk_ids), list(made.inbound_numbers), made.HasField("media")) == ("old", ["ST_a"], ["+1"], False)


FORBIDDEN_HEADER = inbound("+1", headers={"Call-ID": "y"})
NO_NUMBER = sip.SIPOutboundTrunkInfo(address="a")
TOO_LONG = Duration(seconds=2**60)
NO_KIND = sip.SIPDispatchRuleInfo(rule=sip.SIPDispatchRule())


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda s: s.create_inbound_trunk(sip.CreateSIPInboundTrunkRequest()), "invalid_argument"),
        (lambda s: create_inbound(s, name="open to all"), "invalid_argument"),
        (lambda s: create_inbound(s, "+1", sip_trunk_id="ST_x"), "invalid_argument"),
        (lambda s: s.create_inbound_trunk(sip.CreateSIPInboundTrunkRequest(trunk=FORBIDDEN_HEADER)), "invalid_argument"),
        (lambda s: create_inbound(s, "+1", ringing_timeout=TOO_LONG), "invalid_argument"),
        (lambda s: create_inbound(s, "+1", max_call_duration=Duration(seconds=1, nanos=-1)), "invalid_argument"),
        (lambda s: create_rule(s, direct("r", created_at=Timestamp(seconds=-(2**60)))), "invalid_argument"),
        (lambda s: s.create_outbound_trunk(sip.CreateSIPOutboundTrunkRequest(trunk=NO_NUMBER)), "invalid_argument"),
        (lambda s: s.create_dispatch_rule(sip.CreateSIPDispatchRuleRequest()), "invalid_argument"),
        (lambda s: create_rule(s, NO_KIND), "invalid_argument"),
        (lambda s: get_inbound(s, ""), "invalid_argument"),
        (lambda s: get_outbound(s, "ST_x"), "not_found"),
        (lambda s: s.update_inbound_trunk("ST_x", inbound("+1")), "not_found"),
        (lambda s: s.update_inbound_trunk("ST_x", inbound("+1", sip_trunk_id="ST_y")), "invalid_argument"),
        (lambda s: s.update_dispatch_rule("", direct("r")), "invalid_argument"),
        (lambda s: s.delete_trunk(sip.DeleteSIPTrunkRequest()), "invalid_argument"),
        (lambda s: s.delete_dispatch_rule(sip.DeleteSIPDispatchRuleRequest()), "invalid_argument"),
    ],
)
async def test_given_what_livekit_refuses_then_its_code(livekit: Any, ask: Callable[[Any], Any], code: str) -> None:
    async with refused(code):
        await ask(livekit)


async def test_given_the_same_calls_twice_then_the_second_is_refused_with_both_named(livekit: Any) -> None:
    first = await create_inbound(livekit, "+1 555 0100")
    async with refused("invalid_argument", f"{first.sip_trunk_id} and <new>"):
        await create_inbound(livekit, "+15550100")
    second = await create_inbound(livekit, "+15550101")
    async with refused("invalid_argument", second.sip_trunk_id):  # LiveKit lets this one through (trap 6)
        await livekit.update_inbound_trunk(second.sip_trunk_id, inbound("+15550100"))
    await livekit.update_inbound_trunk(first.sip_trunk_id, inbound("+15550100", name="itself"))
    rule = await create_rule(livekit, direct("a"))
    async with refused("invalid_argument", f"{rule.sip_dispatch_rule_id} and <new>"):
        await create_rule(livekit, direct("b"))
    other = await create_rule(livekit, direct("b", trunk_ids=[first.sip_trunk_id]))
    async with refused("invalid_argument", rule.sip_dispatch_rule_id):
        for_any = sip.UpdateSIPDispatchRuleRequest(
            sip_dispatch_rule_id=other.sip_dispatch_rule_id, update=sip.SIPDispatchRuleUpdate(trunk_ids=CLEAR)
        )
        await answered(livekit, "UpdateSIPDispatchRule", for_any, sip.SIPDispatchRuleInfo)


async def test_given_lists_then_they_are_sorted_filtered_and_paged_as_livekits(livekit: Any) -> None:
    trunks = [await create_inbound(livekit, f"+1555010{number}") for number in range(4)]
    anybody = await create_inbound(livekit, allowed_addresses=["203.0.113.7"], allowed_numbers=["+1999"])
    ids = sorted(trunk.sip_trunk_id for trunk in (*trunks, anybody))

    async def listed(**fields: Any) -> list[str]:
        answer = await livekit.list_inbound_trunk(sip.ListSIPInboundTrunkRequest(**fields))
        return [item.sip_trunk_id for item in answer.items]

    assert await listed() == ids
    assert await listed(numbers=["1 (555) 010-2"]) == sorted([trunks[2].sip_trunk_id, anybody.sip_trunk_id])
    assert await listed(trunk_ids=[trunks[3].sip_trunk_id, "ST_missing", trunks[0].sip_trunk_id]) == sorted(
        [trunks[0].sip_trunk_id, trunks[3].sip_trunk_id]
    )
    assert await listed(page=models.Pagination(after_id=ids[1], limit=1)) == ids[2:]
    named = await create_rule(livekit, direct("a", trunk_ids=[trunks[0].sip_trunk_id]))
    general = await create_rule(livekit, direct("b"))
    rules = await livekit.list_dispatch_rule(sip.ListSIPDispatchRuleRequest(trunk_ids=[trunks[1].sip_trunk_id]))
    assert [rule.sip_dispatch_rule_id for rule in rules.items] == [general.sip_dispatch_rule_id]
    rules = await livekit.list_dispatch_rule(sip.ListSIPDispatchRuleRequest(dispatch_rule_ids=[named.sip_dispatch_rule_id]))
    assert list(rules.items) == [named]


async def test_given_a_trunk_of_an_old_deployment_then_it_is_found_listed_changed_and_deleted(livekit: Any, store: SqliteObjects) -> None:
    old = LegacyTrunk(sip_trunk_id="ST_old", outbound_number="+15550100", outbound_address="sip.example.com", inbound_username="u")
    await store.change(lambda _: Edit(put=(old,)))
    got = await get_inbound(livekit, "ST_old")
    assert (list(got.trunk.numbers), got.trunk.auth_username) == (["+15550100"], "u")
    assert (await get_outbound(livekit, "ST_old")).trunk.address == "sip.example.com"
    (listed,) = (await livekit.list_inbound_trunk(sip.ListSIPInboundTrunkRequest())).items
    assert listed == got.trunk
    async with refused("invalid_argument", "ST_old and <new>"):
        await create_inbound(livekit, "+15550100")
    changed = await livekit.update_inbound_trunk_fields("ST_old", name="new name")
    assert (await get_inbound(livekit, "ST_old")).trunk == changed
    await livekit.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id="ST_old"))
    assert not (await store.read()).legacy_trunks
    assert not (await store.read()).inbound_trunks


async def test_given_no_right_to_administer_then_unauthenticated(store: SqliteObjects) -> None:
    async with serving(store) as url:
        token = api.AccessToken("devkey", SECRET).with_sip_grants(api.SIPGrants(call=True)).to_jwt()
        async with api.LiveKitAPI(url, token=token) as client, refused("unauthenticated", "permissions denied"):
            await client.sip.list_inbound_trunk(sip.ListSIPInboundTrunkRequest())


async def test_given_an_object_of_a_file_then_a_change_says_where_it_stands(store: SqliteObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_decide: object) -> None:
        raise ReadOnlyObject("ST_x stands in roomline.yaml:7: change it there")

    monkeypatch.setattr(store, "change", refuse)
    async with (
        serving(store) as url,
        api.LiveKitAPI(url, "devkey", SECRET) as client,
        refused("failed_precondition", "roomline.yaml:7"),
    ):
        await client.sip.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id="ST_x"))


async def test_given_a_store_that_cannot_write_then_it_is_said_and_what_was_there_stays(
    livekit: Any, store: SqliteObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a Redis that is gone (tests/store has them for real)."""
    made = await create_inbound(livekit, "+15550100")

    async def refuse(_decide: object) -> None:
        raise Unavailable("the store cannot be written: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "change", refuse)
        async with refused("unavailable", "disk is full"):
            await create_inbound(livekit, "+15550101")
        async with refused("unavailable", "disk is full"):
            await livekit.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id=made.sip_trunk_id))
    assert [item.sip_trunk_id for item in (await livekit.list_inbound_trunk(sip.ListSIPInboundTrunkRequest())).items] == [made.sip_trunk_id]
    await create_inbound(livekit, "+15550101")


async def test_given_many_who_write_at_once_then_one_of_those_who_claim_the_same_calls_wins(livekit: Any, store: SqliteObjects) -> None:
    answers = await asyncio.gather(*(create_inbound(livekit, "+15550100", name=str(n)) for n in range(200)), return_exceptions=True)
    made = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(made) == 1
    trunk_id = made[0].sip_trunk_id
    await asyncio.gather(*(livekit.update_inbound_trunk_fields(trunk_id, numbers=ListUpdate(add=[f"+1666{n:04}"])) for n in range(1000)))
    stored = (await store.read()).inbound_trunks[trunk_id]
    assert isinstance(stored, InboundTrunk)
    assert len(stored.numbers) == 1001  # none was lost


async def test_given_a_thousand_who_write_one_rule_at_once_then_none_of_what_they_wrote_is_lost(livekit: Any, store: SqliteObjects) -> None:
    rule_id = (await create_rule(livekit, direct("lobby", trunk_ids=["ST_first"]))).sip_dispatch_rule_id
    added = [f"ST_{n}" for n in range(1000)]
    writing = (livekit.update_dispatch_rule_fields(rule_id, trunk_ids=ListUpdate(add=[trunk_id])) for trunk_id in added)
    await asyncio.gather(*writing)
    stored = (await store.read()).dispatch_rules[rule_id]
    assert sorted(stored.trunk_ids) == sorted(["ST_first", *added])
