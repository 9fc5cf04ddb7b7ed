"""What `roomline check` finds at an Asterisk, and that it only looks."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bridge.model.finding import Finding
from bridge.pbx.asterisk.options import AsteriskOptions
from bridge.pbx.asterisk.pbx import HEARTBEAT
from bridge.pbx.asterisk.setup_check import check_asterisk
from bridge.testing.ami_server import AmiAction, AmiServer, Script, failure, message, silence
from tests.pbx.asterisk.stage import SECRET

DIALPLAN = Path(__file__).parents[3] / "dialplan" / "asterisk" / "roomline.conf"


async def check(server: AmiServer, secret: str = SECRET, endpoints: Mapping[str, str] | None = None) -> Sequence[Finding]:
    options = AsteriskOptions("hq", port=server.port, secret=secret, action_timeout=1.0, outbound_endpoints=endpoints or {})
    async with asyncio.timeout(60.0):
        return await check_asterisk(options)


def answers(values: Mapping[str, str], otherwise: str = "1") -> Script:
    """Getvar with these values."""

    def answer(action: AmiAction) -> bytes:
        value = values.get(action["Variable"], otherwise)
        return message({"Response": "Success", "ActionID": action["ActionID"], "Variable": action["Variable"], "Value": value})

    return answer


def wrong(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.ok is not True]


async def test_given_an_asterisk_as_it_should_be_then_all_is_well_and_nothing_was_commanded(server: AmiServer) -> None:
    server.script("Getvar", answers({HEARTBEAT: ""}))
    findings = await check(server)
    assert wrong(findings) == []
    assert all(not finding.todo for finding in findings)
    assert findings[-1].text == "no Roomline server commands this Asterisk now"
    assert {action.name for action in server.actions} <= {"Login", "Getvar", "Ping"}


async def test_given_our_dialplan_then_each_of_its_contexts_is_looked_for(server: AmiServer) -> None:
    server.script("Getvar", answers({}))
    contexts = [line.strip("[] \n") for line in DIALPLAN.read_text().splitlines() if line.startswith("[")]
    assert len(contexts) >= 8
    await check(server)
    for context in contexts:
        assert any(action["Variable"].startswith(f"DIALPLAN_EXISTS({context},") for action in server.named("Getvar"))


async def test_given_a_context_that_is_missing_then_it_is_named_and_what_to_do(server: AmiServer) -> None:
    server.script("Getvar", answers({"DIALPLAN_EXISTS(roomline-transfer,s,1)": "0", "DIALPLAN_EXISTS(roomline,000,1)": ""}))
    findings = wrong(await check(server))
    assert [finding.text.partition(":")[0] for finding in findings] == [
        "the dialplan has no [roomline]",
        "the dialplan has no [roomline-transfer]",
    ]
    assert all("#include" in finding.todo for finding in findings)


async def test_given_none_of_our_contexts_then_it_is_said_once(server: AmiServer) -> None:
    server.script("Getvar", lambda action: answers({}, "0" if action["Variable"].startswith("DIALPLAN_EXISTS(roomline") else "1")(action))
    (finding,) = wrong(await check(server))
    assert finding.text == "the dialplan does not include roomline.conf"


@pytest.mark.parametrize(
    ("values", "ok", "text"),
    [
        ({"ROOMLINE_FALLBACK": ""}, None, "callers whom nobody takes hear congestion: there is no fallback for all calls"),
        ({"ROOMLINE_FALLBACK": "q,s,1", "DIALPLAN_EXISTS(q,s,1)": "0"}, False, "the fallback q,s,1 is not in the dialplan"),
        ({"ROOMLINE_FALLBACK": "q,s,1"}, True, "callers whom nobody takes go to q,s,1"),
    ],
)
async def test_given_a_fallback_then_it_is_looked_at(server: AmiServer, values: dict[str, str], ok: bool | None, text: str) -> None:
    server.script("Getvar", answers(values))
    (finding,) = [finding for finding in await check(server) if finding.text == text]
    assert finding.ok is ok
    assert bool(finding.todo) is (ok is not True)


async def test_given_a_module_that_is_missing_then_it_is_named_with_its_use(server: AmiServer) -> None:
    server.script("Getvar", answers({"IFMODULE(func_uri.so)": "0"}))
    (finding,) = wrong(await check(server))
    assert finding.ok is False
    assert finding.text == "func_uri.so is not loaded: it keeps callers from forging events"
    assert "func_uri.so" in finding.todo


async def test_given_an_asterisk_that_cannot_tell_its_modules_then_that_is_said_once(server: AmiServer) -> None:
    server.script(
        "Getvar",
        lambda action: (
            failure(action, "Function IFMODULE not registered") if action["Variable"].startswith("IFMODULE") else answers({})(action)
        ),
    )
    (finding,) = wrong(await check(server))
    assert finding.ok is None
    assert "app_audiosocket.so" in finding.todo


async def test_given_a_user_without_rights_then_it_is_said_which_it_needs(server: AmiServer) -> None:
    server.script("Getvar", lambda action: failure(action, "Permission denied"))
    (finding,) = wrong(await check(server))
    assert finding.text == "the user roomline may not command calls"
    assert "write = call" in finding.todo


@pytest.mark.parametrize(
    ("refused", "context", "said"),
    [
        ("Permission denied", "from-outside", [(False, "may not call out")]),
        ("Channel not specified", "from-outside", [(True, "may call out"), (True, "have the endpoint to-carrier")]),
        ("Channel not specified", "", [(True, "may call out"), (None, "to-carrier for calls out is not to be found")]),
    ],
)
async def test_given_calls_out_then_their_right_and_their_way_are_looked_at_and_nobody_is_called(
    server: AmiServer, refused: str, context: str, said: list[tuple[bool | None, str]]
) -> None:
    server.script("Getvar", answers({"PJSIP_ENDPOINT(to-carrier,context)": context}))
    server.script("Originate", lambda action: failure(action, refused))
    findings = [each for each in await check(server, endpoints={"ST_1": "to-carrier", "ST_2": "to-carrier"}) if "call" in each.text]
    found = [(each.ok, each.text) for each in findings if "out" in each.text.split()]
    assert [(ok, next(text for _, text in said if text in whole)) for ok, whole in found] == said
    assert [action["Channel"] for action in server.named("Originate")] == [""]


@pytest.mark.parametrize(("count", "text"), [(1, "one more would take it over"), (0, "no Roomline server commands")])
async def test_given_a_heartbeat_then_only_one_that_moves_is_a_servers(server: AmiServer, count: int, text: str) -> None:
    looks = [0]

    def answer(action: AmiAction) -> bytes | None:
        looks[0] += count
        return answers({HEARTBEAT: f"7:deadbeef:{looks[0]}"})(action)

    server.script("Getvar", answer)
    assert text in (await check(server))[-1].text


@pytest.mark.parametrize("trouble", ["refused", "mute", "garbage", "turned away", "secret with a line break"])
async def test_given_no_way_in_then_it_is_one_finding_without_the_secret(server: AmiServer, trouble: str) -> None:
    server.refuses_login = trouble == "refused"
    server.turns_away = trouble == "turned away"
    server.mute = trouble == "mute"
    server.greeting = b"220 smtp\r\n" if trouble == "garbage" else server.greeting
    (finding,) = await check(server, f"{SECRET}\n" if trouble == "secret with a line break" else SECRET)
    assert finding.ok is False
    assert "manager.conf" in finding.todo
    assert SECRET not in repr(finding)


@pytest.mark.parametrize("trouble", ["silent", "cut"])
async def test_given_an_asterisk_that_breaks_off_then_that_is_a_finding(server: AmiServer, trouble: str) -> None:
    def cut(_action: AmiAction) -> None:
        server.cut()

    server.script("Getvar", silence if trouble == "silent" else cut)
    findings = await check(server)
    assert [finding.ok for finding in findings] == [True, False]
