"""The demo as a user starts it: a process with a command line, an outcome and an exit status."""

import asyncio
import json
import re
import signal
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from livekit.api import LiveKitAPI
from livekit.protocol.sip import CreateSIPDispatchRuleRequest, SIPDispatchRule, SIPDispatchRuleDirect, SIPDispatchRuleInfo

from bridge.store.sqlite_objects import SqliteObjects
from bridge.testing.child import Child
from bridge.testing.demo_config import AGENT_OPEN_ROOM, AGENT_PIN_ROOM, OPEN_ROOM, PIN, PIN_ROOM
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.livekit_server import LiveKitServer
from bridge.testing.ports import free_port

KEY, SECRET = "demokey", "a-secret-of-thirty-two-characters!"
RULE = SIPDispatchRuleInfo(trunk_ids=["ST_x"], rule=SIPDispatchRule(dispatch_rule_direct=SIPDispatchRuleDirect(room_name="of the API")))

DEMO = [sys.executable, "-m", "bridge.testing.demo"]


def tells_the_pin(text: str) -> bool:
    """By itself: its four digits are in one of some hundred UUIDs by chance."""
    return re.search(rf"(?<![0-9a-f-]){PIN}(?![0-9a-f-])", text) is not None


@pytest.mark.slow
@pytest.mark.usefixtures("asterisk")
@pytest.mark.parametrize("pbx", ["asterisk", "freeswitch"])
async def test_given_the_demo_once_then_all_four_calls_go_as_they_should(tmp_path: Path, pbx: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(pbx)
    demo = Child([*DEMO, "--once", "--json", "--pbx", pbx, "--keep", str(tmp_path / "kept")], log=tmp_path / "output")
    await demo.start()
    try:
        async with asyncio.timeout(100):
            status = await demo.wait()
    finally:
        await demo.stop()
    outcome = json.loads(demo.output().splitlines()[-1])
    calls = {call["name"]: call for call in outcome["calls"]}
    assert [call["problems"] for call in outcome["calls"]] == [[], [], [], []]
    assert (status, outcome["ok"]) == (0, True)

    right, wrong, nobody, opened = (calls[name] for name in ("right PIN", "wrong PIN", "no rule", "open rule"))
    assert shape(right) == (200, PIN_ROOM, True, 1, "caller")
    assert 0 < right["round_trip_ms"] < 500
    assert right["heard_seconds"] > 5
    assert shape(wrong) == (200, "", True, 1, "roomline")
    assert shape(nobody) == (404, "", False, 0, "roomline")
    assert nobody["heard_seconds"] == 0
    assert shape(opened) == (200, OPEN_ROOM, True, 0, "caller")
    assert all(call["trace"] for call in outcome["calls"])

    for call in (right, wrong, opened):
        with wave.open(call["wav"]) as heard:
            assert heard.getnframes() / heard.getframerate() > 2
    for log in (tmp_path / "kept").rglob("*.log"):
        assert not tells_the_pin(log.read_text(errors="replace")), f"the PIN is in {log}"


@pytest.mark.slow
@pytest.mark.usefixtures("asterisk", "livekit_binary")
async def test_given_the_demo_with_livekit_then_the_rules_agent_greets_the_callers_and_sends_their_keys_back(tmp_path: Path) -> None:
    """A real agent, dispatched by the rule's room configuration: the open rule's caller hears ringing until it publishes."""
    demo = Child([*DEMO, "--livekit", "--once", "--json", "--keep", str(tmp_path / "kept")], log=tmp_path / "output")
    await demo.start()
    try:
        async with asyncio.timeout(100):
            status = await demo.wait()
    finally:
        await demo.stop()
    outcome = json.loads(demo.output().splitlines()[-1])
    assert [call["problems"] for call in outcome["calls"]] == [[], [], [], []]
    assert (status, outcome["ok"]) == (0, True)
    right, wrong, nobody, opened = outcome["calls"]
    assert shape(right) == (200, AGENT_PIN_ROOM, True, 1, "caller")
    assert shape(wrong) == (200, "", True, 1, "roomline")
    assert shape(nobody) == (404, "", False, 0, "roomline")
    assert shape(opened) == (200, AGENT_OPEN_ROOM, True, 0, "caller")
    for log in (tmp_path / "kept").rglob("*.log"):
        text = log.read_text(errors="replace")
        assert not tells_the_pin(text), f"the PIN is in {log}"
        assert "eyJ" not in text, f"a token is in {log}"


async def test_given_a_livekit_that_is_there_then_the_demo_uses_it(
    livekit: LiveKitServer, asterisk: Asterisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", livekit.key)
    monkeypatch.setenv("LIVEKIT_API_SECRET", livekit.secret)
    demo = Child([*DEMO, "--livekit", livekit.url, "--no-calls"], log=tmp_path / "output")
    await demo.start()
    try:
        await until_it_says(demo, "Ctrl-C ends it")
        children = await asyncio.to_thread(descendants, demo.pid)
        assert len(children) == 4, "two Asterisk, a server and an agent"
        demo.send(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await demo.wait() == 0
    finally:
        await demo.stop()
    assert livekit.secret not in demo.output()
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]  # noqa: ASYNC240  (procfs does not block)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell starts what runs in its background deaf to Ctrl-C, and our children would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("asterisk", "interruptible")
async def test_given_the_demo_stays_up_when_it_is_ended_then_no_process_stays(tmp_path: Path, number: signal.Signals) -> None:
    """With LiveKit's API beside it: what is made over it outlives the demo."""
    sip, api, store = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", tmp_path / "kept.db"
    given = ["--api", api, "--api-key", f"{KEY}:{SECRET}", "--store", f"sqlite:///{store}"]
    demo = Child([*DEMO, "--no-calls", "--sip", sip, *given], log=tmp_path / "output")
    await demo.start()
    try:
        await until_it_says(demo, "Ctrl-C ends it")
        assert f"sip:+15550100@{sip}" in demo.output()
        assert f"export LIVEKIT_URL=http://{api} LIVEKIT_API_KEY={KEY} LIVEKIT_API_SECRET=…" in demo.output()
        async with LiveKitAPI(f"http://{api}", KEY, SECRET) as livekit:
            made = await livekit.sip.create_dispatch_rule(CreateSIPDispatchRuleRequest(dispatch_rule=RULE))
        children = await asyncio.to_thread(descendants, demo.pid)
        assert len(children) == 3, "two Asterisk and a server"
        demo.send(number)
        async with asyncio.timeout(15):
            assert await demo.wait() == 0
    finally:
        await demo.stop()
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]  # noqa: ASYNC240  (procfs does not block)
    assert SECRET not in demo.output()
    async with SqliteObjects(store) as kept:
        assert set((await kept.read()).dispatch_rules) == {made.sip_dispatch_rule_id}


@pytest.mark.usefixtures("asterisk")
async def test_given_a_configuration_that_is_wrong_then_the_servers_reason_is_shown(tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    await asyncio.to_thread(config.write_text, "trunkz: []\n")
    demo = Child([*DEMO, "--json", "--config", str(config)], log=tmp_path / "output")
    await demo.start()
    try:
        async with asyncio.timeout(30):
            assert await demo.wait() == 1
    finally:
        await demo.stop()
    assert "trunkz" in json.loads(demo.output().splitlines()[-1])["error"]


def shape(call: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(call[name] for name in ("sip_status", "room", "answered", "pin_tries", "ended_by"))


async def until_it_says(child: Child, text: str) -> None:
    async with asyncio.timeout(60):
        while text not in child.output():
            assert child.running, child.output()
            await asyncio.sleep(0.1)


def descendants(pid: int) -> list[int]:
    """The processes whose parent it is (proc(5): the fourth field of stat)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.parent.name))
    return found
