"""`roomline check` for a FreeSWITCH: each thing that may be missing is found, and nothing secret is said of it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from bridge.model.credentials import TrunkCredentials
from bridge.model.finding import Finding
from bridge.pbx.freeswitch.options import FreeSwitchOptions
from bridge.pbx.freeswitch.setup_check import check_freeswitch
from bridge.testing.freeswitch import EslCommand, FreeSwitchServer, Script, api_response
from bridge.testing.freeswitch_config import dialplan_folder

PASSWORD = "p4ssw0rd-93ab"
DIRECTORY_SECRET = "d1rectory-77ce"
TRUNK = TrunkCredentials("ST_a", "user", "hidden")

DIALPLAN = (dialplan_folder() / "roomline.xml").read_text()
CONTEXT = DIALPLAN[DIALPLAN.index("<context") : DIALPLAN.index("</include>")]
BINDING = (dialplan_folder() / "xml_curl.conf.xml").read_text().partition("-->")[2].strip()

PROFILES = """<configuration name="sofia.conf"><profiles>
<profile name="carriers"><settings>
<param name="inbound-codec-prefs" value="OPUS,PCMU@20i"/><param name="auth-calls" value="true"/></settings></profile>
<profile name="phones"><settings><param name="dialplan" value="XML"/></settings></profile></profiles></configuration>"""


def with_profile(param: str, value: str, *, everywhere: bool = False) -> dict[str, str]:
    """What is said where the phones' profile, or each, has this too."""
    more = f'<settings><param name="{param}" value="{value}"/>'
    before = "<settings>" if everywhere else '<profile name="phones"><settings>'
    return {"xml_locate configuration configuration name sofia.conf": PROFILES.replace(before, before.replace("<settings>", more))}


GOOD: Mapping[str, str] = {
    "xml_locate dialplan context name roomline": CONTEXT,
    "xml_locate dialplan context name default": "<context name='default'/>",
    "xml_locate configuration configuration name xml_curl.conf": BINDING.replace("CHANGE-ME", DIRECTORY_SECRET),
    "xml_locate configuration configuration name sofia.conf": PROFILES,
    "global_getvar roomline_fallback": "5000 XML default",
    "global_getvar roomline_heartbeat": "-ERR no reply",
    "sched_api +60 roomline-check echo": "+OK Added: 7",
    "sched_del roomline-check": "+OK Deleted: 1",
    "show channels as json": '{"row_count":0}',
}


def answers(said: Mapping[str, str]) -> Script:
    def answer(command: EslCommand) -> bytes:
        words = command.line.removeprefix("api ")
        if words in said:
            return api_response(said[words])
        return api_response("true" if words.startswith("module_exists") else "-ERR not scripted")

    return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.pbx.freeswitch.setup_check._BETWEEN_LOOKS", 0.01)


@pytest.fixture
async def server() -> AsyncIterator[FreeSwitchServer]:
    async with FreeSwitchServer(PASSWORD) as server:
        yield server


async def look(server: FreeSwitchServer, said: Mapping[str, str], *trunks: TrunkCredentials, **changes: Any) -> list[Finding]:
    for name in {words.split(" ")[0] for words in GOOD} | {"module_exists"}:
        server.script(name, answers({**GOOD, **said}))
    options = replace(FreeSwitchOptions("fs", port=server.port, password=PASSWORD), **changes)
    found = list(await check_freeswitch(options, trunks))
    shown = " ".join(f"{finding.text} {finding.todo}" for finding in found)
    assert not [secret for secret in (PASSWORD, DIRECTORY_SECRET, "hidden") if secret in shown]
    return found


def wrong(found: list[Finding]) -> list[str]:
    return [finding.text for finding in found if finding.ok is False]


async def test_given_a_freeswitch_that_has_everything_then_it_is_said_and_no_call_is_touched(server: FreeSwitchServer) -> None:
    found = await look(server, {}, TRUNK)
    assert wrong(found) == []
    assert all(finding.ok for finding in found)
    assert "callers whom nobody takes go to 5000 XML default" in [finding.text for finding in found]
    assert {command.name for command in server.commands} <= {
        "auth", "version", "module_exists", "xml_locate", "global_getvar", "sched_api", "sched_del", "show", "echo",
    }  # fmt: skip
    assert [command.line for command in server.named("sched_api", "sched_del")] == [
        "api sched_api +60 roomline-check echo",
        "api sched_del roomline-check",
    ]


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"module_exists mod_dptools": "false"}, "mod_dptools is not loaded"),
        ({"xml_locate dialplan context name roomline": "-ERR can't find context roomline"}, "the dialplan has no context roomline"),
        ({"xml_locate dialplan context name roomline": "<context><broken"}, "the dialplan has no context roomline"),
        ({"xml_locate dialplan context name roomline": CONTEXT.replace("rtp_timer_name=soft", "x=y")}, "has no rtp_timer_name=soft"),
        ({"xml_locate dialplan context name roomline": CONTEXT.replace("send_silence_when_idle=0", "")}, "has no send_silence_when_idle=0"),
        ({"xml_locate dialplan context name roomline": CONTEXT.replace("srtp_allow_idle_gaps=true", "")}, "no srtp_allow_idle_gaps=true"),
        ({"xml_locate dialplan context name roomline": CONTEXT.replace("sched_api", "echo")}, "it has no sched_api"),
        ({"xml_locate dialplan context name default": "-ERR"}, "the fallback 5000 XML default is not in the dialplan"),
        ({"sched_api +60 roomline-check echo": "-ERR unknown command"}, "a call would have no lease"),
        ({"show channels as json": "-ERR Cannot get a DB handle"}, "does not tell which calls are up"),
        (with_profile("inbound-use-callid-as-uuid", "true", everywhere=True), "SIP profile carriers, phones: callers choose the ids"),
        (with_profile("inbound-bypass-media", "yes", everywhere=True), "does not come to FreeSWITCH"),
        (
            {"xml_locate configuration configuration name sofia.conf": PROFILES.replace('value="true"', 'value="false"')},
            "no SIP profile asks anybody for a password",
        ),
        ({"module_exists mod_xml_curl": "false"}, "mod_xml_curl is not loaded: nobody gets in by the 1 trunks"),
        ({"xml_locate configuration configuration name xml_curl.conf": "<configuration/>"}, "mod_xml_curl does not ask Roomline"),
        ({"xml_locate configuration configuration name xml_curl.conf": BINDING}, "has no secret"),
        (
            {"xml_locate configuration configuration name xml_curl.conf": BINDING.replace('bindings="directory"', 'bindings="dialplan"')},
            "is not for the directory",
        ),
    ],
)
async def test_given_something_missing_then_it_is_found_with_what_to_do(server: FreeSwitchServer, said: dict[str, str], says: str) -> None:
    found = [finding for finding in await look(server, said, TRUNK) if finding.ok is False]
    assert len(found) == 1
    assert says in found[0].text
    assert found[0].todo


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (with_profile("inbound-codec-prefs", "OPUS,VP8"), "SIP profile phones: its callers have no codec in common"),
        (with_profile("codec-prefs", "GSM@20i"), "SIP profile phones: its callers have no codec in common"),
        (with_profile("inbound-use-callid-as-uuid", "true"), "SIP profile phones: callers choose the ids"),
        (with_profile("inbound-proxy-media", "true"), "SIP profile phones: the audio of its calls"),
        ({"xml_locate configuration configuration name sofia.conf": "-ERR"}, "nothing of them was looked at"),
    ],
)
async def test_given_a_profile_by_which_nobody_may_come_then_it_is_said_which(
    server: FreeSwitchServer, said: dict[str, str], says: str
) -> None:
    (found,) = (finding for finding in await look(server, said) if not finding.ok)
    assert found.ok is None
    assert says in found.text
    assert found.todo


@pytest.mark.parametrize("prefs", ["$${codecs}", "pcma", "G722,OPUS"])
async def test_given_codecs_that_may_do_then_nothing_is_said(server: FreeSwitchServer, prefs: str) -> None:
    assert all(finding.ok for finding in await look(server, with_profile("inbound-codec-prefs", prefs)))


async def test_given_nothing_that_answers_for_trunks_with_a_password_then_it_is_found(server: FreeSwitchServer) -> None:
    (text,) = wrong(await look(server, {}, TRUNK, has_directory=False))
    assert "nobody gets in by the 1 trunks with a password" in text
    assert wrong(await look(server, {}, has_directory=False)) == []


async def test_given_no_trunk_that_asks_for_a_password_then_nothing_is_said_of_it(server: FreeSwitchServer) -> None:
    assert wrong(await look(server, {"module_exists mod_xml_curl": "false"})) == []
    assert wrong(await look(server, {"module_exists mod_xml_curl": "false"}, TRUNK, trusted_users={"carrier": "ST_a"})) == []


@pytest.mark.parametrize("said", [{"module_exists mod_local_stream": "false"}, {"global_getvar roomline_fallback": ""}])
async def test_given_something_that_calls_can_do_without_then_it_is_only_said(server: FreeSwitchServer, said: dict[str, str]) -> None:
    found = await look(server, said)
    assert wrong(found) == []
    assert [finding.ok for finding in found].count(None) == 1


async def test_given_the_password_of_everybody_then_it_is_wrong() -> None:
    async with FreeSwitchServer("ClueCon") as server:
        assert wrong(await look(server, {}, password="ClueCon")) == [
            "the event socket's password is one that everybody knows: who is let in there may do anything"
        ]


async def test_given_another_password_then_that_is_all_that_is_said(server: FreeSwitchServer) -> None:
    (found,) = await check_freeswitch(FreeSwitchOptions("fs", port=server.port, password="another"), [])
    assert found.ok is False
    assert "pbx[].esl" in found.todo


async def test_given_nobody_there_then_the_way_there_is_said(server: FreeSwitchServer) -> None:
    port = server.port
    await server.__aexit__()
    (found,) = await check_freeswitch(FreeSwitchOptions("fs", port=port, password=PASSWORD), [])
    assert found.ok is False
    assert "mod_event_socket" in found.todo


async def test_given_a_server_that_commands_it_then_it_is_said(server: FreeSwitchServer) -> None:
    beats = iter(range(100))

    def beat(command: EslCommand) -> bytes:
        return api_response(f"1:abc:{next(beats)}" if command.arguments == "roomline_heartbeat" else "5000 XML default")

    for name in {words.split(" ")[0] for words in GOOD} | {"module_exists"}:
        server.script(name, answers(GOOD))
    server.script("global_getvar", beat)
    found = await check_freeswitch(FreeSwitchOptions("fs", port=server.port, password=PASSWORD), [])
    assert found[-1].text == "a Roomline server commands this FreeSWITCH now; one more would take it over"
