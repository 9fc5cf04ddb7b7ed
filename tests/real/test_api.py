"""LiveKit's own client, the same sequence against Roomline and against LiveKit's server over a Redis each: the answers agree field by
field, ids and what docs/differences.md lists apart. And each reads from Redis what the other has written.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from livekit.api import LiveKitAPI, SIPGrants, TwirpError, VideoGrants
from livekit.protocol import models, room, sip
from livekit.protocol.models import ListUpdate

from bridge.api.twirp import to_json
from bridge.app import Application
from bridge.settings import Settings
from bridge.store.protobuf import to_message
from bridge.store.sqlite_objects import SqliteObjects
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.livekit_server import LiveKitServer
from bridge.testing.redis_server import NoRedis, RedisServer, get_redis_server
from bridge.testing.stack import Stack
from tests.real.conftest import not_to_be_had
from tests.real.scenario import CONFIGURATION, hears_itself, the_record

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY, SECRET = "APIofRoomline", "a-secret-of-thirty-two-characters!"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    async for server in redis_in(tmp_path_factory.mktemp("redis")):
        yield server


async def redis_in(folder: Path) -> AsyncIterator[RedisServer]:
    try:
        get_redis_server()
    except NoRedis as error:
        not_to_be_had(str(error))
    async with RedisServer(folder) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def livekit_with_redis(
    livekit_binary: Path, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LiveKitServer]:
    async with LiveKitServer(livekit_binary, tmp_path_factory.mktemp("livekit"), redis) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def livekits(livekit_with_redis: LiveKitServer) -> AsyncIterator[LiveKitAPI]:
    async with livekit_with_redis.api() as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ours(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveKitAPI]:
    """Roomline over a Redis of its own, with no PBX: none is needed for these."""
    folder = tmp_path_factory.mktemp("roomline")
    async for redis in redis_in(folder / "redis"):
        path = folder / "roomline.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "pbx": [{"name": "away", "ami": {"port": 1, "secret": "x"}}],
                    "media": {"listen": "127.0.0.1:0"},
                    "store": redis.url,
                    "records": f"sqlite:///{folder / 'roomline.db'}",
                    "api": {"listen": "127.0.0.1:0", "keys": {KEY: SECRET}},
                    "outbound": {"allow": ["*", "*@*"]},
                }
            )
        )
        async with (
            Application(Settings.load(path, {}).sound()) as app,
            LiveKitAPI(f"http://127.0.0.1:{app.api_port}", KEY, SECRET) as client,
        ):
            yield client


@dataclass
class Sequence:
    """Asks one server, and keeps what it said with its ids by the order in which they came."""

    client: Any
    said: list[Any] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)

    async def ask(self, asked: Awaitable[Message]) -> Any:
        """The answer, None for a refusal."""
        try:
            answer = await asked
        except TwirpError as error:
            self.said.append({"code": error.code, "status": error.status})
            return None
        for name in ("sip_trunk_id", "sip_dispatch_rule_id"):
            if given := getattr(answer, name, ""):
                self.ids.setdefault(given, f"{given.partition('_')[0]} {len(self.ids)}")
        self.said.append(self._known(to_json(answer)))
        return answer

    async def raw(self, method: str, asked: Message, answer: type[Message]) -> Any:
        """For what LiveKit's client has no method for, or loses on the way."""
        sip_service = self.client.sip
        return await self.ask(sip_service._client.request("SIP", method, asked, sip_service._admin_headers(), answer))

    def _known(self, found: Any) -> Any:
        """With its ids told apart from those of another run, and lists of objects by them: each server sorts by its own."""
        if isinstance(found, dict):
            return {key: self._known(value) for key, value in found.items()}
        if isinstance(found, list):
            known = [self._known(value) for value in found]
            return sorted(known, key=repr) if known and isinstance(known[0], dict) else known
        return self.ids.get(found, found) if isinstance(found, str) else found


INBOUND = sip.SIPInboundTrunkInfo(
    name="ü☎",
    metadata='{"a": 1}',
    numbers=["+15550100", "+1 (555) 0101"],
    allowed_addresses=["203.0.113.0/24"],
    allowed_numbers=["alice"],
    auth_username="user",
    auth_password="pässword",
    auth_realm="realm",
    headers={"X-A": "1"},
    headers_to_attributes={"X-B": "b"},
    attributes_to_headers={"c": "X-C"},
    include_headers=sip.SIP_ALL_HEADERS,
    ringing_timeout=Duration(seconds=30, nanos=500_000_000),
    max_call_duration=Duration(seconds=3600),
    krisp_enabled=True,
    media_encryption=sip.SIP_MEDIA_ENCRYPT_ALLOW,
    media=sip.SIPMediaConfig(only_listed_codecs=True, codecs=[sip.SIPCodec(name="PCMU", rate=8000)]),
)
OUTBOUND = sip.SIPOutboundTrunkInfo(
    name="out",
    address="sip.example.com:5080",
    destination_country="DE",
    transport=sip.SIP_TRANSPORT_TLS,
    numbers=["+1", "+2"],
    auth_username="u",
    auth_password="p",
    from_host="example.com",
    headers={"X-A": "1"},
    include_headers=sip.SIP_X_HEADERS,
)
DIRECT = sip.SIPDispatchRule(dispatch_rule_direct=sip.SIPDispatchRuleDirect(room_name="lobby", pin="1234"))
CALLEE = sip.SIPDispatchRule(dispatch_rule_callee=sip.SIPDispatchRuleCallee(room_prefix="to-", randomize=True))
EACH = sip.SIPDispatchRule(dispatch_rule_individual=sip.SIPDispatchRuleIndividual(room_prefix="call-"))
RULE = sip.SIPDispatchRuleInfo(
    rule=DIRECT,
    name="the lobby",
    metadata="m",
    attributes={"a": "1", "b": "2"},
    numbers=["+15550100"],
    inbound_numbers=["+1999"],
    hide_phone_number=True,
    room_preset="preset",
    room_config=room.RoomConfiguration(name="n", empty_timeout=10, metadata="x", agents=[]),
    krisp_enabled=True,
    media=sip.SIPMediaConfig(encryption=sip.SIP_MEDIA_ENCRYPT_REQUIRE),
)


async def of_inbound_trunks(run: Sequence) -> None:
    api = run.client.sip
    create = sip.CreateSIPInboundTrunkRequest
    for wrong in (
        None,
        sip.SIPInboundTrunkInfo(name="for anybody"),
        sip.SIPInboundTrunkInfo(numbers=["+1"], sip_trunk_id="ST_chosen"),
        sip.SIPInboundTrunkInfo(numbers=["+1"], headers={"Call-ID": "x"}),
        sip.SIPInboundTrunkInfo(numbers=["+1"], headers={"X-A": "line\r\nbreak"}),
        sip.SIPInboundTrunkInfo(numbers=["+1"], media=sip.SIPMediaConfig(codecs=[sip.SIPCodec(name="")])),
        sip.SIPInboundTrunkInfo(numbers=["+1"], attributes_to_headers={"a": "Not Valid"}),
    ):
        await run.ask(api.create_inbound_trunk(create(trunk=wrong)))
    made = await run.ask(api.create_inbound_trunk(create(trunk=INBOUND)))
    await run.ask(api.create_inbound_trunk(create(trunk=sip.SIPInboundTrunkInfo(numbers=["15550100"], allowed_numbers=["alice"]))))
    other = await run.ask(api.create_inbound_trunk(create(trunk=sip.SIPInboundTrunkInfo(numbers=["15550100"], allowed_numbers=["bob"]))))
    wild = await run.ask(api.create_inbound_trunk(create(trunk=sip.SIPInboundTrunkInfo(auth_username="only"))))
    get = sip.GetSIPInboundTrunkRequest
    for trunk_id in (made.sip_trunk_id, "ST_nobody", ""):
        await run.raw("GetSIPInboundTrunk", get(sip_trunk_id=trunk_id), sip.GetSIPInboundTrunkResponse)
    await run.ask(
        api.update_inbound_trunk_fields(made.sip_trunk_id, name="", metadata="new", numbers=ListUpdate(add=["+3"], remove=["+15550100"]))
    )
    await run.ask(api.update_inbound_trunk_fields(made.sip_trunk_id, allowed_numbers=["carol"], auth_password="new"))
    for update in (
        sip.SIPInboundTrunkUpdate(numbers=ListUpdate(clear=True)),
        sip.SIPInboundTrunkUpdate(numbers=ListUpdate(set=["+1"], add=["+2"])),
        sip.SIPInboundTrunkUpdate(numbers=ListUpdate(set=[""])),
        sip.SIPInboundTrunkUpdate(numbers=ListUpdate()),
        sip.SIPInboundTrunkUpdate(
            auth_username="", auth_password="", numbers=ListUpdate(clear=True), allowed_addresses=ListUpdate(clear=True)
        ),
        sip.SIPInboundTrunkUpdate(),
    ):
        asked = sip.UpdateSIPInboundTrunkRequest(sip_trunk_id=made.sip_trunk_id, update=update)
        await run.raw("UpdateSIPInboundTrunk", asked, sip.SIPInboundTrunkInfo)
    await run.ask(api.update_inbound_trunk(other.sip_trunk_id, sip.SIPInboundTrunkInfo(numbers=["+4"], name="replaced")))
    await run.ask(api.update_inbound_trunk(other.sip_trunk_id, sip.SIPInboundTrunkInfo(numbers=["+4"], sip_trunk_id="ST_another")))
    await run.ask(api.update_inbound_trunk(other.sip_trunk_id, sip.SIPInboundTrunkInfo(name="for anybody")))
    await run.ask(api.update_inbound_trunk("ST_nobody", sip.SIPInboundTrunkInfo(numbers=["+4"])))
    await run.ask(api.update_inbound_trunk("", sip.SIPInboundTrunkInfo(numbers=["+4"])))
    await run.raw("UpdateSIPInboundTrunk", sip.UpdateSIPInboundTrunkRequest(sip_trunk_id=other.sip_trunk_id), sip.SIPInboundTrunkInfo)
    listed = sip.ListSIPInboundTrunkRequest
    await run.ask(api.list_inbound_trunk(listed()))
    await run.ask(api.list_inbound_trunk(listed(numbers=["4"])))
    await run.ask(api.list_inbound_trunk(listed(trunk_ids=[wild.sip_trunk_id, "ST_nobody", made.sip_trunk_id])))
    await run.ask(api.list_inbound_trunk(listed(page=models.Pagination(limit=1))))
    await run.ask(api.list_inbound_trunk(listed(page=models.Pagination(after_id="ST_zzzzzzzzzzzzz"))))
    await run.raw("ListSIPTrunk", sip.ListSIPTrunkRequest(), sip.ListSIPTrunkResponse)
    for trunk_id in (made.sip_trunk_id, other.sip_trunk_id, wild.sip_trunk_id, "ST_nobody", ""):
        await run.ask(api.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id=trunk_id)))
    await run.ask(api.list_inbound_trunk(listed()))


async def of_outbound_trunks(run: Sequence) -> None:
    api = run.client.sip
    create = sip.CreateSIPOutboundTrunkRequest
    for wrong in (
        None,
        sip.SIPOutboundTrunkInfo(address="a"),
        sip.SIPOutboundTrunkInfo(numbers=["+1"]),
        sip.SIPOutboundTrunkInfo(numbers=["+1"], address="sip:a"),
        sip.SIPOutboundTrunkInfo(numbers=["+1"], address="a;transport=tcp"),
        sip.SIPOutboundTrunkInfo(numbers=["+1"], address="a", from_host="b@c"),
        sip.SIPOutboundTrunkInfo(numbers=["+1"], address="a", sip_trunk_id="ST_chosen"),
    ):
        await run.ask(api.create_outbound_trunk(create(trunk=wrong)))
    made = await run.ask(api.create_outbound_trunk(create(trunk=OUTBOUND)))
    await run.raw("GetSIPOutboundTrunk", sip.GetSIPOutboundTrunkRequest(sip_trunk_id=made.sip_trunk_id), sip.GetSIPOutboundTrunkResponse)
    await run.raw("GetSIPInboundTrunk", sip.GetSIPInboundTrunkRequest(sip_trunk_id=made.sip_trunk_id), sip.GetSIPInboundTrunkResponse)
    await run.ask(api.update_outbound_trunk_fields(made.sip_trunk_id, address="b", transport=sip.SIP_TRANSPORT_UDP, numbers=["+3"]))
    cleared = sip.UpdateSIPOutboundTrunkRequest(
        sip_trunk_id=made.sip_trunk_id, update=sip.SIPOutboundTrunkUpdate(numbers=ListUpdate(clear=True))
    )
    await run.raw("UpdateSIPOutboundTrunk", cleared, sip.SIPOutboundTrunkInfo)
    await run.ask(api.update_outbound_trunk_fields(made.sip_trunk_id, address="sip:b"))
    await run.ask(api.update_outbound_trunk(made.sip_trunk_id, sip.SIPOutboundTrunkInfo(address="c", numbers=["+1"])))
    await run.ask(api.update_outbound_trunk("ST_nobody", sip.SIPOutboundTrunkInfo(address="c", numbers=["+1"])))
    await run.ask(api.list_outbound_trunk(sip.ListSIPOutboundTrunkRequest()))
    await run.ask(api.list_outbound_trunk(sip.ListSIPOutboundTrunkRequest(numbers=["1"])))
    await run.raw("ListSIPTrunk", sip.ListSIPTrunkRequest(), sip.ListSIPTrunkResponse)
    await run.ask(api.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id=made.sip_trunk_id)))


async def of_rules(run: Sequence) -> None:
    api = run.client.sip
    create = sip.CreateSIPDispatchRuleRequest
    for wrong in (
        create(),
        create(dispatch_rule=sip.SIPDispatchRuleInfo(name="no rule")),
        create(dispatch_rule=sip.SIPDispatchRuleInfo(rule=sip.SIPDispatchRule())),
        create(dispatch_rule=sip.SIPDispatchRuleInfo(rule=DIRECT, sip_dispatch_rule_id="SDR_chosen")),
        create(dispatch_rule=sip.SIPDispatchRuleInfo(rule=DIRECT, trunk_ids=["ST_a", "ST_a"])),
        create(dispatch_rule=sip.SIPDispatchRuleInfo(rule=DIRECT, media=sip.SIPMediaConfig(media_timeout=Duration(seconds=-1)))),
    ):
        await run.ask(api.create_dispatch_rule(wrong))
    made = await run.ask(api.create_dispatch_rule(create(dispatch_rule=RULE)))
    await run.ask(api.create_dispatch_rule(create(dispatch_rule=RULE)))
    old = await run.ask(api.create_dispatch_rule(create(rule=EACH, name="old form", trunk_ids=["ST_x"], attributes={"k": "v"})))
    both = await run.ask(
        api.create_dispatch_rule(create(rule=EACH, name="ignored", dispatch_rule=sip.SIPDispatchRuleInfo(rule=CALLEE, numbers=["+7"])))
    )
    await run.ask(api.update_dispatch_rule_fields(made.sip_dispatch_rule_id, name="", attributes={"a": "", "c": "3"}, trunk_ids=["ST_y"]))
    await run.ask(api.update_dispatch_rule_fields(made.sip_dispatch_rule_id, rule=EACH))
    for update in (
        sip.SIPDispatchRuleUpdate(trunk_ids=ListUpdate(clear=True)),
        sip.SIPDispatchRuleUpdate(trunk_ids=ListUpdate(set=["ST_a"], clear=True)),
        sip.SIPDispatchRuleUpdate(rule=sip.SIPDispatchRule()),
        sip.SIPDispatchRuleUpdate(media=sip.SIPMediaConfig(encryption=sip.SIP_MEDIA_ENCRYPT_ALLOW)),
        sip.SIPDispatchRuleUpdate(),
    ):
        asked = sip.UpdateSIPDispatchRuleRequest(sip_dispatch_rule_id=both.sip_dispatch_rule_id, update=update)
        await run.raw("UpdateSIPDispatchRule", asked, sip.SIPDispatchRuleInfo)
    await run.ask(api.update_dispatch_rule(old.sip_dispatch_rule_id, sip.SIPDispatchRuleInfo(rule=CALLEE, numbers=["+8"])))
    await run.ask(api.update_dispatch_rule(old.sip_dispatch_rule_id, sip.SIPDispatchRuleInfo(name="no rule")))
    await run.ask(api.update_dispatch_rule("SDR_nobody", sip.SIPDispatchRuleInfo(rule=CALLEE)))
    listed = sip.ListSIPDispatchRuleRequest
    await run.ask(api.list_dispatch_rule(listed()))
    await run.ask(api.list_dispatch_rule(listed(trunk_ids=["ST_y"])))
    await run.ask(api.list_dispatch_rule(listed(dispatch_rule_ids=[both.sip_dispatch_rule_id, "SDR_nobody"])))
    for rule_id in (made.sip_dispatch_rule_id, old.sip_dispatch_rule_id, both.sip_dispatch_rule_id, "SDR_nobody", ""):
        await run.ask(api.delete_dispatch_rule(sip.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=rule_id)))


async def of_transfers(run: Sequence) -> None:
    """What is refused, and in which order: each of these has all that is looked at later wrong as well. Who is handed on needs a call."""
    service = run.client.sip
    calls, lobby = SIPGrants(call=True), VideoGrants(room_admin=True, room="lobby")
    good = {"room_name": "lobby", "participant_identity": "nobody"}
    bad_header = {"headers": {"Call-ID": "x"}}
    for grants, video, fields in (
        (SIPGrants(), None, {}),
        (calls, lobby, {"room_name": "lobby"}),
        (calls, lobby, {"participant_identity": "nobody"}),
        (SIPGrants(), lobby, good),
        (SIPGrants(admin=True), lobby, good),
        (calls, None, good),
        (calls, VideoGrants(room="lobby"), good),
        (calls, VideoGrants(room_admin=True), good),
        (calls, VideoGrants(room_admin=True, room="other"), good),
        (calls, lobby, {**good, **bad_header}),
        (calls, lobby, {**good, **bad_header, "transfer_to": "5105550100"}),
        (calls, lobby, {**good, **bad_header, "transfer_to": "http://example.com"}),
        (calls, lobby, {**good, **bad_header, "transfer_to": "SIP:a@example.com"}),
        (calls, lobby, {**good, **bad_header, "transfer_to": "tel:+15105550100"}),
        (calls, lobby, {**good, "headers": {"X-A": "line\r\nbreak"}, "transfer_to": "<sip:a@example.com>"}),
        (calls, lobby, {**good, "transfer_to": "<sip:a@example.com>"}),
        (calls, lobby, {**good, "transfer_to": "tel:+15105550100", "headers": {"Referred-By": "<sip:u7@example.com"}}),
    ):
        headers, request = service._auth_header(video, sip=grants), sip.TransferSIPParticipantRequest(**fields)
        await run.ask(service._client.request("SIP", "TransferSIPParticipant", request, headers, sip.TransferSIPParticipantResponse))


async def of_participants(run: Sequence) -> None:
    """As with transfers. Who is called is tests/real/scenarios/test_outbound.py's: LiveKit's server would ask a livekit-sip, and there is
    none. It does not know `to_user_override` yet."""
    service = run.client.sip
    calls = SIPGrants(call=True)
    out = sip.SIPOutboundTrunkInfo(name="nameless", address="carrier.example", numbers=["+1"])
    trunk = (await run.ask(service.create_outbound_trunk(sip.CreateSIPOutboundTrunkRequest(trunk=out)))).sip_trunk_id
    good = {"sip_trunk_id": "ST_nobody", "sip_call_to": "+15550100", "room_name": "lobby"}
    bad_header = {"headers": {"Call-ID": "x"}}
    for grants, fields in (
        (SIPGrants(), {}),
        (SIPGrants(admin=True), good),
        (calls, {}),
        (calls, {"sip_trunk_id": trunk}),
        (calls, {"sip_trunk_id": trunk, "sip_call_to": "a@example.com"}),
        (calls, {"sip_trunk_id": trunk, "sip_call_to": "+1"}),
        (calls, {**good, **bad_header}),
        (calls, {**good, "room_name": ""}),
        (calls, {**good, "display_name": "x" * 129}),
        (calls, {**good, "display_name": 'a"b'}),
        (calls, {**good, "destination": sip.Destination(city="Berlin")}),
        (calls, {**good, "destination": sip.Destination(country="Germany")}),
        (calls, {**good, "destination": sip.Destination(country="xx")}),
        (calls, {**good, "trunk": sip.SIPOutboundConfig()}),
        (calls, {"sip_call_to": "+1", "room_name": "lobby", "trunk": sip.SIPOutboundConfig(hostname="sip:a@b")}),
        (calls, good),
        (calls, {**good, "destination": sip.Destination(city="Berlin", country="DE")}),
    ):
        headers, request = service._auth_header(VideoGrants(), sip=grants), sip.CreateSIPParticipantRequest(**fields)
        await run.ask(service._client.request("SIP", "CreateSIPParticipant", request, headers, sip.SIPParticipantInfo))
    await run.ask(service.delete_trunk(sip.DeleteSIPTrunkRequest(sip_trunk_id=trunk)))


@pytest.mark.parametrize("ask", [of_inbound_trunks, of_outbound_trunks, of_rules, of_transfers, of_participants])
async def test_given_the_same_questions_then_roomline_answers_as_livekit(
    ours: LiveKitAPI, livekits: LiveKitAPI, ask: Callable[[Sequence], Awaitable[None]]
) -> None:
    here, there = Sequence(ours), Sequence(livekits)
    await asyncio.gather(ask(here), ask(there))
    differing = [(place, one, other) for place, (one, other) in enumerate(zip(here.said, there.said, strict=True)) if one != other]
    assert not differing, "\n".join(f"answer {place}:\n  Roomline {one}\n  LiveKit  {other}" for place, one, other in differing)
    assert len(here.said) > 15


def _comparable(found: Any) -> Any:
    """Without ids, and without what only a newer LiveKit than this one has."""
    text = re.sub(r"ST_\w{12}", "ST_…", json.dumps(found, sort_keys=True))
    return json.loads(text.replace('"ringing_timeout_status": "SIP_STATUS_UNKNOWN", ', ""))


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        (
            "livekit.SIP/CreateSIPInboundTrunk",
            JSON,
            b'{"trunk": {"name": "json", "numbers": ["+1777"], "ringingTimeout": "12.5s", "newer": 1}}',
        ),
        ("livekit.SIP/ListSIPInboundTrunk", JSON, b"{}"),
        ("livekit.SIP/ListSIPInboundTrunk", {"Content-Type": "Application/JSON; charset=utf-8"}, b"{}"),
        ("livekit.SIP/ListSIPInboundTrunk", JSON, b"{"),
        ("livekit.SIP/ListSIPInboundTrunk", JSON, b'{"page": {"limit": "many"}}'),
        ("livekit.SIP/ListSIPInboundTrunk", JSON, b"\xff\xfe"),
        ("livekit.SIP/ListSIPInboundTrunk", {"Content-Type": "application/protobuf"}, b"\xff\xff\xff"),
        ("livekit.SIP/ListSIPInboundTrunk", {"Content-Type": "text/plain"}, b"{}"),
        ("livekit.SIP/ListSIPInboundTrunk", {**JSON, "Authorization": "Bearer of.bad.news"}, b"{}"),
        ("livekit.SIP/ListSIPInboundTrunk", {**JSON, "Authorization": "Basic eDp5"}, b"{}"),
        ("livekit.SIP/ListSIPInboundTrunk", {**JSON, "Authorization": ""}, b"{}"),
        ("livekit.SIP/CreateSIPTrunk", JSON, b"{}"),
        ("livekit.SIP/Nothing", JSON, b"{}"),
        ("livekit.Elsewhere/Nothing", JSON, b"{}"),
    ],
)
async def test_given_what_comes_over_the_wire_then_status_and_body_are_livekits(
    ours: LiveKitAPI, livekits: LiveKitAPI, path: str, headers: dict[str, str], body: bytes
) -> None:
    """Of errors the code: their sentences are each server's own."""

    async def answer(api: Any) -> tuple[int, Any]:
        token = api.sip._auth_header(None, sip=SIPGrants(admin=True))
        async with (
            aiohttp.ClientSession(headers=token) as session,
            session.post(f"{api.sip._client.host}/twirp/{path}", headers=headers, data=body) as got,
        ):
            if not got.content_type.startswith("application/json"):
                return got.status, got.content_type
            found = await got.json()
            return got.status, found.get("code") or _comparable(found)

    assert await answer(ours) == await answer(livekits)


async def test_given_objects_of_livekits_server_in_redis_then_roomline_routes_a_real_call_and_back(
    asterisk: Asterisk, redis: RedisServer, livekits: LiveKitAPI, tmp_path: Path
) -> None:
    """What a LiveKit deployment has configured takes calls here; what is configured here its server lists, to the last field."""
    configuration = {"rooms": CONFIGURATION["rooms"], "store": redis.url, "api": {"keys": {KEY: SECRET}}}
    trunk = await livekits.sip.create_inbound_trunk(
        sip.CreateSIPInboundTrunkRequest(trunk=sip.SIPInboundTrunkInfo(name="LiveKit's", numbers=["+15550300"]))
    )
    into_echo = sip.SIPDispatchRule(dispatch_rule_direct=sip.SIPDispatchRuleDirect(room_name="echo"))
    async with Stack(configuration, asterisk=asterisk, keep=tmp_path / "stack") as stack:
        # Made while Roomline runs: another instance's change counts within a second.
        rule = await livekits.sip.create_dispatch_rule(
            sip.CreateSIPDispatchRuleRequest(dispatch_rule=sip.SIPDispatchRuleInfo(rule=into_echo, trunk_ids=[trunk.sip_trunk_id]))
        )
        await asyncio.sleep(1.0)
        call = await stack.carrier.call("+15550300")
        await call.answered()
        await hears_itself(call)
        await call.hang_up()
        record = await the_record(stack, call)
        assert (record.trunk_id, record.rule_id) == (trunk.sip_trunk_id, rule.sip_dispatch_rule_id)

        async with LiveKitAPI(f"http://{stack.api_address}", KEY, SECRET) as roomline:
            made = await roomline.sip.create_inbound_trunk(sip.CreateSIPInboundTrunkRequest(trunk=INBOUND))
            made_rule = await roomline.sip.create_dispatch_rule(sip.CreateSIPDispatchRuleRequest(dispatch_rule=RULE))
        trunks = await livekits.sip.list_inbound_trunk(sip.ListSIPInboundTrunkRequest(trunk_ids=[made.sip_trunk_id]))
        rules = await livekits.sip.list_dispatch_rule(sip.ListSIPDispatchRuleRequest(dispatch_rule_ids=[made_rule.sip_dispatch_rule_id]))
        assert (list(trunks.items), list(rules.items)) == ([made], [made_rule])


async def test_given_livekits_server_then_its_objects_are_imported_and_a_second_time_nothing_changes(
    livekit_with_redis: LiveKitServer, livekits: LiveKitAPI, tmp_path: Path
) -> None:
    trunk = await livekits.sip.create_inbound_trunk(sip.CreateSIPInboundTrunkRequest(trunk=IMPORTED))
    into = sip.SIPDispatchRule(dispatch_rule_direct=sip.SIPDispatchRuleDirect(room_name="imported", pin="80428617"))
    info = sip.SIPDispatchRuleInfo(rule=into, trunk_ids=[trunk.sip_trunk_id], attributes={"a": "b"})
    rule = await livekits.sip.create_dispatch_rule(sip.CreateSIPDispatchRuleRequest(dispatch_rule=info))
    config = tmp_path / "roomline.yaml"
    store = tmp_path / "roomline.db"
    config.write_text(f"pbx: [{{name: away, ami: {{port: 1, secret: x}}}}]\nstore: sqlite:///{store}\n")
    keys = {"LIVEKIT_API_KEY": livekit_with_redis.key, "LIVEKIT_API_SECRET": livekit_with_redis.secret}

    async def import_all() -> dict[str, Any]:
        arguments = [sys.executable, "-m", "bridge", "import", livekit_with_redis.url, "-c", str(config), "--yes", "--json"]
        process = await asyncio.create_subprocess_exec(*arguments, env={**os.environ, **keys}, stdout=asyncio.subprocess.PIPE)
        told, _ = await process.communicate()
        assert process.returncode == 0
        report: dict[str, Any] = json.loads(told)
        return report

    ids = {trunk.sip_trunk_id, rule.sip_dispatch_rule_id}
    first, second = await import_all(), await import_all()
    assert {each["id"]: each["fate"] for each in first["objects"] if each["id"] in ids} == dict.fromkeys(ids, "new")
    assert {each["id"]: each["fate"] for each in second["objects"] if each["id"] in ids} == dict.fromkeys(ids, "same")
    assert (first["done"], second["done"], first["passed_over"]) == (True, False, [])
    async with SqliteObjects(store) as opened:
        inventory = await opened.read()
    assert to_message(inventory.inbound_trunks[trunk.sip_trunk_id]) == trunk
    assert to_message(inventory.dispatch_rules[rule.sip_dispatch_rule_id]) == rule


IMPORTED = sip.SIPInboundTrunkInfo(
    name="to be imported", numbers=["+15550310"], auth_username="u", auth_password="p", ringing_timeout=Duration(seconds=12)
)
