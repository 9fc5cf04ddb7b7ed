"""Asterisk, Roomline and its node in containers, with rooms of Roomline's own: what the carrier's callers hear, also while services are
restarted under them."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bridge.testing.carrier_health import SIP_PORT
from bridge.testing.hearing import FALLBACK, MUSIC, a_tone_of
from bridge.testing.listening import SILENCE_DB, level
from bridge.testing.phone import SILENCE, Phone
from tests.real.docker.composition import DOCKER, PUBLISHED_HERE, UNPUBLISHED, Composition

PIN = ("--pin", "1234")
TONE = a_tone_of(1200.0)

TRUNK = {"sip_trunk_id": "ST_kept", "name": "made by hand", "numbers": ["2050"]}
GUARDED = {"sip_trunk_id": "ST_guarded", "numbers": ["2051"], "auth_username": "sales", "auth_password": "made-by-hand"}
RULE = {"sip_dispatch_rule_id": "SDR_kept", "trunk_ids": ["ST_kept"], "rule": {"dispatch_rule_direct": {"room_name": "announcements"}}}


def test_given_up_then_the_four_calls_of_the_demo_go_as_they_should(local: Composition) -> None:
    demo = local.carrier("demo")
    assert (demo.returncode, demo.stdout.count("as it should be")) == (0, 4), demo.stdout + demo.stderr


async def test_given_the_right_pin_then_the_exit_status_says_so_and_the_echo_is_heard(local: Composition) -> None:
    story = await local.whole_call("2000", *PIN)
    assert (story.status, story.outcome) == (0, "in the room")
    assert story.heard(TONE) > 3.0
    assert "1234" not in story.text


async def test_given_a_call_that_does_not_get_in_then_the_exit_status_says_so(local: Composition) -> None:
    wrong = await local.whole_call("2000", "--pin", "9999")
    assert (wrong.status, wrong.outcome) == (1, "wrong PIN")
    nobody = await local.whole_call("2099")
    assert (nobody.status, nobody.outcome, nobody.told["sip_status"]) == (1, "refused", 404)
    asked = await local.whole_call("2000")
    assert (asked.status, asked.outcome) == (1, "a PIN is wanted")


def test_given_the_stack_then_roomlines_own_check_finds_nothing_wrong(local: Composition) -> None:
    assert "Calls can come." in local.roomline("check")


def test_given_asterisk_when_its_dialplan_and_manager_are_reloaded_then_calls_can_come_as_before(local: Composition) -> None:
    for command in ("dialplan reload", "manager reload"):
        local.compose("exec", "-T", "asterisk", "asterisk", "-rx", command)
    assert "Calls can come." in local.roomline("check")
    assert local.carrier("call", "2000", "--pin", "1234").returncode == 0


def test_given_the_image_then_the_dialplan_that_it_brings_is_this_trees(local: Composition) -> None:
    told = local.compose("run", "--rm", "--no-deps", "-T", "roomline", "files", "asterisk").stdout.strip()
    inside = local.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "cat", "roomline", f"{told}/roomline.conf").stdout
    assert inside == (DOCKER.parent / "dialplan" / "asterisk" / "roomline.conf").read_text()


async def test_given_a_call_when_roomline_is_restarted_then_the_caller_notices_nothing(local: Composition) -> None:
    call = await local.call("2000", *PIN, "--talk", "25")
    await call.says(f"hears    {TONE}")
    local.restart("roomline")
    story = await call.told()
    assert (story.status, story.outcome) == (0, "in the room")
    assert story.longest_without(TONE) < 0.5, story.text
    assert story.heard(MUSIC) == 0


async def test_given_a_call_when_the_node_is_restarted_then_the_caller_hears_music_and_is_back(local: Composition) -> None:
    call = await local.call("2000", *PIN, "--talk", "30")
    await call.says(f"hears    {TONE}")
    local.restart("node")
    story = await call.told()
    assert (story.status, story.outcome) == (0, "in the room"), story.text
    assert story.order(TONE, MUSIC) == [TONE, MUSIC, TONE], story.text
    assert story.longest_without(TONE) < 12.0, story.text


async def test_given_a_call_when_the_node_is_asked_to_end_then_it_goes_on_to_the_calls_own_end(local: Composition) -> None:
    call = await local.call("2000", *PIN, "--talk", "20")
    await call.says(f"hears    {TONE}")
    node = local.containers()["node"]["Id"]
    local.engine.docker("kill", "-s", "TERM", node)
    story = await call.told()
    assert (story.status, story.outcome) == (0, "in the room"), story.text
    assert story.longest_without(TONE) < 0.5, story.text
    assert local.engine.docker("wait", node, timeout=30).stdout.strip() == "0"
    local.up()


async def test_given_a_call_when_asterisk_is_restarted_then_the_call_is_cut_and_the_next_one_comes_through(local: Composition) -> None:
    call = await local.call("2000", *PIN, "--talk", "40")
    await call.says(f"hears    {TONE}")
    local.restart("asterisk")
    story = await call.told()
    assert (story.status, story.outcome) == (1, "cut off"), story.text
    local.up()
    assert (await local.whole_call("2000", *PIN)).status == 0


async def test_given_no_roomline_then_the_caller_gets_the_fallback(local: Composition) -> None:
    local.compose("stop", "roomline")
    try:
        story = await local.whole_call("2001")
    finally:
        local.up()
    assert (story.status, story.outcome) == (1, "the PBX's fallback")
    assert story.heard(FALLBACK) > 1.0
    assert 2.5 < story.told["answered_after"] < 8.0


async def test_given_objects_of_ones_own_when_everything_goes_down_and_up_then_they_are_there(local: Composition) -> None:
    objects = yaml.safe_dump({"trunks": [TRUNK, GUARDED], "dispatch_rules": [RULE]})
    local.compose("exec", "-T", "roomline", "sh", "-c", f"cat > /tmp/objects.yaml <<'END'\n{objects}\nEND")
    local.roomline("import", "/tmp/objects.yaml", "--yes")
    before, calls = local.roomline("export"), local.roomline("calls", "--limit", "50")
    local.down()
    local.up()
    assert local.roomline("export") == before
    assert local.roomline("calls", "--limit", "50") == calls, "the records of calls last too"
    assert "ST_kept" in before
    assert (await local.whole_call("2050")).status == 0
    guarded = await local.whole_call("2051")
    assert (guarded.outcome, guarded.told["sip_status"]) == ("refused", 401), "Asterisk knows that this trunk has a password"


def test_given_hup_then_the_objects_are_read_anew(local: Composition) -> None:
    before = local.compose("logs", "roomline").stdout.count("these objects decide now")
    local.compose("kill", "-s", "HUP", "roomline")
    deadline = time.monotonic() + 5
    while local.compose("logs", "roomline").stdout.count("these objects decide now") == before:
        assert time.monotonic() < deadline, "nothing was read"


@pytest.fixture(scope="module")
def staying(local: Composition) -> Iterator[Composition]:
    """With the carrier that takes a softphone's calls."""
    local.compose("up", "-d", "--no-build", "--wait", "--wait-timeout", "60", "carrier")
    yield local
    local.compose("rm", "-f", "-s", "carrier")


async def test_given_a_carrier_that_stays_then_a_softphone_registers_there_by_its_password_and_its_calls_come_through(
    staying: Composition,
) -> None:
    network = staying.containers()["carrier"]["NetworkSettings"]["Networks"]["roomline-lane-local_default"]
    password = staying.settings()["SOFTPHONE_PASSWORD"]
    address, host = (network["IPAddress"], SIP_PORT), network["Gateway"]
    async with Phone(address, caller="softphone", host=host, credentials=("softphone", "another")) as stranger:
        assert (await stranger.register()).status == 401
    async with Phone(address, caller="softphone", host=host, credentials=("softphone", password)) as phone:
        assert (await phone.register()).status == 200
        assert (await phone.call("2001", timeout=30.0)).status == 200
        phone.send(SILENCE)
        deadline = time.monotonic() + 20
        while level(phone.heard_samples()[-8000:]) <= SILENCE_DB:
            assert time.monotonic() < deadline, f"the announcer is not heard; {phone.frames_heard} frames came"
            await asyncio.sleep(0.2)


def test_given_the_containers_then_none_has_rights_or_is_reached_from_elsewhere(staying: Composition) -> None:
    published = dict.fromkeys(("roomline", "asterisk", "carrier"), PUBLISHED_HERE)
    assert staying.rights() == {**published, "node": UNPUBLISHED}


DRAIN_SECONDS = 13
DRAIN = f"""\
services:
  roomline:
    environment: {{ROOMLINE_CALLS__DRAIN: "{DRAIN_SECONDS}"}}
"""


async def test_given_a_drain_longer_than_dockers_own_patience_when_roomline_is_stopped_then_its_calls_get_all_of_it(
    local: Composition, tmp_path: Path
) -> None:
    """Docker kills a container after 10 s unless the compose file says otherwise; what was to end with the server would talk on then."""
    drain = tmp_path / "drain.yaml"
    drain.write_text(DRAIN)
    local.up(drain)
    try:
        call = await local.call("2000", *PIN, "--talk", "60")
        await call.says(f"hears    {TONE}")
        server, began = local.containers()["roomline"]["Id"], time.monotonic()
        await asyncio.to_thread(local.compose, "stop", "roomline")
        took = time.monotonic() - began
        status = local.engine.docker("inspect", "-f", "{{.State.ExitCode}}", server).stdout.strip()
        story = await call.told()
    finally:
        local.up()
    assert status == "0", "it was killed"
    assert took > DRAIN_SECONDS - 0.5
    assert (story.status, story.outcome) == (1, "cut off"), story.text
    assert story.longest_without(TONE) < 0.5, story.text


def test_given_the_logs_then_no_pin_and_no_secret_is_in_them(local: Composition) -> None:
    logs = local.compose("logs", "--no-color").stdout
    secrets = [line.partition("=")[2] for line in local.file.read_text().splitlines() if "SECRET=" in line or "PASSWORD=" in line]
    assert len(secrets) >= 5
    assert not [secret for secret in secrets if secret in logs]
    assert "1234#" not in logs
