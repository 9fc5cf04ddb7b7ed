"""LiveKit's own layout in a real Redis: read what LiveKit's server wrote, keep what we do not know, outlive Redis's absence."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from livekit.protocol import sip
from redis import Redis
from structlog.testing import capture_logs

from bridge.errors import Unavailable
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, LegacyTrunk, OutboundTrunk
from bridge.store.inventory import inbound_trunks
from bridge.store.port import Edit, Inventory
from bridge.store.protobuf import MESSAGES, decoded, encoded
from bridge.store.redis import RedisObjects, shown
from bridge.testing.redis_server import RedisServer
from tests.store.objects import ONE_OF_EACH, delete, needs_redis, next_where, put, room_of, rule


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    with needs_redis():
        async with RedisServer(tmp_path / "redis") as started:
            yield started


@pytest.fixture
def raw(server: RedisServer) -> Iterator[Redis]:
    client = server.client()
    yield client
    client.close()


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisObjects]:
    async with RedisObjects(server.url) as opened:
        yield opened


async def test_given_what_livekit_wrote_then_it_is_read_as_it_is(store: RedisObjects, raw: Redis) -> None:
    direct = sip.SIPDispatchRule(dispatch_rule_direct=sip.SIPDispatchRuleDirect(room_name="lobby", pin="80428617"))
    info = sip.SIPDispatchRuleInfo(sip_dispatch_rule_id="SDR_a", rule=direct, trunk_ids=["ST_in"], attributes={"k": "v"})
    info.room_config.agents.add(agent_name="helper")
    info.created_at.seconds, info.created_at.nanos = 1_700_000_000, 123_456_789
    raw.hset("sip_dispatch_rule", "SDR_a", info.SerializeToString())
    trunk = sip.SIPInboundTrunkInfo(sip_trunk_id="ST_in", numbers=["+15550100"], ringing_timeout_status=404)  # type: ignore[arg-type]  # an enum's number
    trunk.ringing_timeout.seconds = 30
    raw.hset("sip_inbound_trunk", "ST_in", trunk.SerializeToString())
    raw.hset("sip_trunk", "ST_old", sip.SIPTrunkInfo(sip_trunk_id="ST_old", outbound_number="+15550111").SerializeToString())
    raw.hset("sip_trunk", "ST_in", sip.SIPTrunkInfo(sip_trunk_id="ST_in", outbound_number="+15550112").SerializeToString())
    inventory = await store.read()
    assert inventory.dispatch_rules["SDR_a"].pin == "80428617"
    assert inventory.dispatch_rules["SDR_a"].room_config == {"agents": [{"agent_name": "helper"}]}
    assert inventory.inbound_trunks["ST_in"].ringing_timeout_status == 404
    taking_calls = inbound_trunks(inventory)
    assert taking_calls["ST_in"].numbers == ("+15550100",), "its own hash comes before a legacy one"
    assert taking_calls["ST_old"].numbers == ("+15550111",)


async def test_given_what_we_wrote_then_livekit_reads_it(store: RedisObjects, raw: Redis) -> None:
    await store.change(put(*ONE_OF_EACH))
    info = sip.SIPDispatchRuleInfo.FromString(raw.hget("sip_dispatch_rule", "SDR_direct"))  # type: ignore[arg-type]  # bytes, of a blocking client
    assert (info.rule.dispatch_rule_direct.room_name, info.room_config.agents[0].agent_name) == ("lobby", "a")
    trunk = sip.SIPInboundTrunkInfo.FromString(raw.hget("sip_inbound_trunk", "ST_in"))  # type: ignore[arg-type]  # as above
    assert (trunk.auth_password, trunk.max_call_duration.nanos) == ("pässword", 500_000_000)
    assert {key.decode() for key in raw.keys("*")} == {  # type: ignore[union-attr]  # as above
        "sip_trunk",
        "sip_inbound_trunk",
        "sip_outbound_trunk",
        "sip_dispatch_rule",
        "roomline:phone_number",
    }


def unknown(field: int, text: bytes) -> bytes:
    """A field of type bytes in protobuf's binary form, as a newer LiveKit may write it."""
    return bytes([(field << 3 | 2) & 0x7F | 0x80, field >> 4, len(text)]) + text


async def test_given_fields_of_a_newer_livekit_when_we_update_then_they_stay_at_every_level(store: RedisObjects, raw: Redis) -> None:
    direct = sip.SIPDispatchRuleDirect.FromString(sip.SIPDispatchRuleDirect(room_name="lobby").SerializeToString() + unknown(400, b"deep"))
    info = sip.SIPDispatchRuleInfo(sip_dispatch_rule_id="SDR_a", rule=sip.SIPDispatchRule(dispatch_rule_direct=direct))
    info.room_config.agents.add(agent_name="helper")
    raw.hset("sip_dispatch_rule", "SDR_a", info.SerializeToString() + unknown(500, b"top"))

    def renamed(inventory: Inventory) -> Edit:
        return Edit(put=(inventory.dispatch_rules["SDR_a"].model_copy(update={"name": "new name"}),))

    await store.change(renamed)
    stored = raw.hget("sip_dispatch_rule", "SDR_a")
    assert isinstance(stored, bytes)
    assert unknown(400, b"deep") in stored
    assert stored.count(unknown(500, b"top")) == 1
    assert sip.SIPDispatchRuleInfo.FromString(stored).name == "new name"
    await store.change(renamed)
    assert raw.hget("sip_dispatch_rule", "SDR_a") == stored, "nothing grows"


async def test_given_garbage_then_it_is_passed_over_said_once_and_never_destroyed(store: RedisObjects, raw: Redis) -> None:
    garbage: dict[str | bytes, bytes] = {
        "SDR_bad": b"\xff\xfe\xfd",
        "SDR_utf8": b"\x0a\x02\xff\xff",
        b"\xff\xfe": b"",
        "SDR_other": sip.SIPDispatchRuleInfo(sip_dispatch_rule_id="SDR_x").SerializeToString(),
        "SDR_enum": sip.SIPDispatchRuleInfo(sip_dispatch_rule_id="SDR_enum", media_encryption=77).SerializeToString(),  # type: ignore[arg-type]  # of a newer LiveKit
    }
    garbage |= {
        name: sip.SIPDispatchRuleInfo(sip_dispatch_rule_id=name, created_at=when).SerializeToString()
        for name, when in {"SDR_later": Timestamp(seconds=2**60), "SDR_never": Timestamp(nanos=-1)}.items()
    }
    trunk = sip.SIPInboundTrunkInfo(
        sip_trunk_id="ST_long", ringing_timeout=Duration(seconds=2**60), max_call_duration=Duration(seconds=1, nanos=-1)
    )
    raw.hset("sip_inbound_trunk", "ST_long", trunk.SerializeToString())
    raw.hset("sip_dispatch_rule", mapping=garbage)  # type: ignore[arg-type]  # names as bytes are fine
    raw.hset("roomline:phone_number", "PN_bad", b'{"e164_format": "+1", "geheim": 1}')
    with capture_logs() as logs:
        for number in range(3):
            assert set((await store.change(put(rule("SDR_a", metadata=str(number))))).dispatch_rules) == {"SDR_a"}
        await store.change(delete(rule("SDR_a")))
        assert await store.read() == Inventory()
    told = ["\\xff\\xfe", "PN_bad", "SDR_bad", "SDR_enum", "SDR_later", "SDR_never", "SDR_other", "SDR_utf8", "ST_long"]
    assert sorted(line["field"] for line in logs) == sorted(told)
    assert "geheim" not in str(logs)
    assert str(2**60) not in str(logs)
    assert raw.hget("sip_inbound_trunk", "ST_long") == trunk.SerializeToString()
    assert raw.hgetall("sip_dispatch_rule") == {name.encode() if isinstance(name, str) else name: value for name, value in garbage.items()}


async def test_given_a_key_of_another_type_then_it_is_said_and_nothing_is_written(store: RedisObjects, raw: Redis) -> None:
    raw.set("sip_dispatch_rule", "mine")
    for asked in (store.read(), store.change(put(rule()))):
        with pytest.raises(Unavailable, match="WRONGTYPE"):
            await asked
    assert raw.get("sip_dispatch_rule") == b"mine"
    raw.delete("sip_dispatch_rule")
    await store.change(put(rule()))


async def test_given_redis_gone_and_back_then_what_was_read_last_stays_writes_say_so_and_it_goes_on(
    store: RedisObjects, server: RedisServer
) -> None:
    await store.change(put(rule("SDR_a", "before")))
    changes = store.changes()
    assert room_of(await anext(changes)) == "before"
    with capture_logs() as logs:
        await server.kill()
        waiting = asyncio.create_task(next_where(changes, lambda inventory: "SDR_b" in inventory.dispatch_rules))
        for asked in (store.read(), store.change(put(rule("SDR_a", "lost")))):
            with pytest.raises(Unavailable, match=server.address):
                await asked
        await asyncio.sleep(0.8)
        assert server.address in store.trouble
        assert not waiting.done()
        await server.start()
        async with RedisObjects(server.url) as other:
            assert room_of(await other.change(put(rule("SDR_b", "after")))) == "before", "nothing of the write that failed"
        async with asyncio.timeout(2.0):
            await waiting
    assert store.trouble == ""
    assert [line["event"].partition(":")[0] for line in logs] == ["the store cannot be read", "the store can be read again"]
    assert server.password not in str(logs)


async def test_given_writers_while_redis_is_killed_then_each_change_that_was_confirmed_is_there_and_none_twice(
    store: RedisObjects, server: RedisServer
) -> None:
    """Also a connection lost in the middle of a transaction is not tried again: that would count twice."""
    await store.change(put(rule("SDR_a", metadata="0")))

    def one_more(inventory: Inventory) -> Edit:
        found = inventory.dispatch_rules["SDR_a"]
        return Edit(put=(found.model_copy(update={"metadata": str(int(found.metadata) + 1)}),))

    confirmed, unknown_ends, ending = 0, 0, asyncio.Event()

    async def write() -> None:
        nonlocal confirmed, unknown_ends
        while not ending.is_set():
            try:
                await store.change(one_more)
                confirmed += 1
            except Unavailable as error:
                unknown_ends += "done or not done" in str(error)
                await asyncio.sleep(0.01)

    writing = [asyncio.create_task(write()) for _ in range(3)]
    for _ in range(3):
        await asyncio.sleep(0.1)
        await server.kill()
        await server.start()
    await asyncio.sleep(0.1)
    ending.set()
    await asyncio.gather(*writing)
    counted = int((await store.read()).dispatch_rules["SDR_a"].metadata)
    assert confirmed <= counted <= confirmed + unknown_ends


async def test_given_redis_that_stops_answering_then_nobody_waits_for_ever(
    store: RedisObjects, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.store.redis.PATIENCE", 0.2)
    store._disconnect()
    await store.read()
    server.child.send(signal.SIGSTOP)
    try:
        async with asyncio.timeout(2.0):
            with pytest.raises(Unavailable):
                await store.change(put(rule()))
    finally:
        server.child.send(signal.SIGCONT)
    await store.change(put(rule()))


async def test_given_a_wrong_password_or_nobody_there_then_it_is_unavailable_and_no_secret_is_told(server: RedisServer) -> None:
    for url, why in (
        (f"redis://:geheim@{server.address}/0", "password"),
        ("redis://user:geheim@127.0.0.1:1/0", "127.0.0.1:1/0"),
        (f"rediss://:geheim@{server.address}/0", server.address),  # it speaks no TLS
    ):
        with pytest.raises(Unavailable, match=why) as raised:
            async with RedisObjects(url):
                pass
        assert "geheim" not in str(raised.value)


def test_given_a_url_then_it_is_shown_without_its_secrets() -> None:
    assert shown("rediss://user:geheim@redis.example.com:6380/2?password=geheim") == "rediss://redis.example.com:6380/2"


async def test_given_a_closed_store_then_it_is_unavailable(server: RedisServer) -> None:
    async with RedisObjects(server.url) as store:
        pass
    with pytest.raises(Unavailable, match="closed"):
        await store.read()


@pytest.mark.parametrize("model", [InboundTrunk, OutboundTrunk, LegacyTrunk, DispatchRule])
def test_given_livekits_message_then_the_model_has_a_place_for_each_of_its_fields(
    model: type[InboundTrunk | OutboundTrunk | LegacyTrunk | DispatchRule],
) -> None:
    """Else what LiveKit's API takes would be lost on the way. A field that is missing here is still kept in Redis."""
    assert {field.name for field in MESSAGES[model].DESCRIPTOR.fields} <= set(model.model_fields)
    for found in ONE_OF_EACH:
        if isinstance(found, model):
            assert decoded(model, encoded(found)) == found
            assert encoded(found, b"\xff") == encoded(found)
