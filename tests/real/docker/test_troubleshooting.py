"""docs/troubleshooting.md: its commands are run where the symptom is, and show the cause that the page names."""

import time

from bridge.testing.hearing import a_tone_of
from tests.real.docker.composition import Composition

TONE = a_tone_of(1200.0)


def asterisk(local: Composition, command: str) -> str:
    return local.compose("exec", "-T", "asterisk", "asterisk", "-rx", command).stdout


async def test_given_a_rejected_call_then_explain_and_the_record_say_why(local: Composition) -> None:
    await local.whole_call("2099", "--from", "+15551234")
    assert "refused with 404" in local.roomline("explain", "--from", "+15551234", "--to", "2099")
    assert "no-rule" in local.roomline("calls", "--limit", "5")


def test_given_no_server_then_the_heart_stands_still_and_check_says_it(local: Composition) -> None:
    def beat() -> str:
        return next((line for line in asterisk(local, "dialplan show globals").splitlines() if "ROOMLINE_HEARTBEAT" in line), "")

    first = beat()
    time.sleep(2.5)
    assert beat() != first
    assert "roomline" in asterisk(local, "manager show connected")
    assert '"connected": true' in local.http("/readyz")
    local.compose("stop", "roomline")
    try:
        first = beat()
        time.sleep(2.5)
        assert beat() == first
        assert "roomline" not in asterisk(local, "manager show connected")
    finally:
        local.up()


def test_given_a_secret_that_does_not_fit_then_check_says_so(local: Composition) -> None:
    done = local.compose("exec", "-T", "-e", "ROOMLINE_AMI_SECRET=another", "roomline", "roomline", "check", check=False)
    assert done.returncode == 1
    assert "compare pbx[].ami with the user in manager.conf" in done.stdout


async def test_given_a_call_that_talks_then_the_packets_are_counted_and_the_room_is_shown(local: Composition) -> None:
    call = await local.call("2000", "--pin", "1234", "--talk", "15")
    await call.says(f"hears    {TONE}")
    assert "ulaw" in asterisk(local, "pjsip show channelstats")
    assert "!roomline-media!" in asterisk(local, "core show channels concise")
    live = local.roomline("calls", "--live")
    assert "room lobby" in live
    assert "roomline_media_" in local.http("/metrics")
    assert (await call.told()).status == 0


async def test_given_a_call_that_rings_then_the_live_calls_say_what_it_waits_for(local: Composition) -> None:
    call = await local.call("2001", "--talk", "2")
    await call.says("180 Ringing")
    assert "room announcements" in local.roomline("calls", "--live")
    await call.told()


async def test_given_no_way_to_the_node_then_the_call_is_in_the_context_for_lost_sound(local: Composition) -> None:
    call = await local.call("2000", "--pin", "1234", "--talk", "30")
    await call.says(f"hears    {TONE}")
    local.engine.docker("kill", local.containers()["node"]["Id"])
    try:
        deadline = time.monotonic() + 20
        while "!roomline-lost!" not in (channels := asterisk(local, "core show channels concise")) and "roomline-watch" not in channels:
            assert time.monotonic() < deadline, channels
    finally:
        local.up()
    assert (await call.told()).told["answered_after"] is not None


def test_given_keys_that_are_not_seen_then_the_endpoint_and_the_users_rights_can_be_read(local: Composition) -> None:
    assert "dtmf_mode" in asterisk(local, "pjsip show endpoint anonymous")
    told = asterisk(local, "manager show user roomline")
    rights = next(line.partition(":")[2] for line in told.splitlines() if line.strip().startswith("read perm"))
    assert {"call", "dtmf", "user"} <= set(rights.strip().split(","))


def test_given_a_file_that_is_wrong_then_check_offline_names_the_line(local: Composition) -> None:
    script = "printf 'pbx: []\\ntrunkz: []\\n' > /tmp/wrong.yaml; roomline check --offline -c /tmp/wrong.yaml"
    done = local.compose("exec", "-T", "roomline", "sh", "-c", script, check=False)
    assert done.returncode != 0
    assert "wrong.yaml:2: trunkz" in done.stdout + done.stderr
