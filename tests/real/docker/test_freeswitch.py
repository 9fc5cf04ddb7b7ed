"""FreeSWITCH as the PBX among the containers: the same numbers, the same stories; and what the pages say to `fs_cli`."""

import asyncio
import time

from bridge.testing.hearing import FALLBACK, MUSIC, a_tone_of
from tests.real.docker.composition import PUBLISHED_HERE, UNPUBLISHED, Composition

TONE = a_tone_of(1200.0)


def fs_cli(freeswitch: Composition, command: str) -> str:
    """As docs/troubleshooting.md says that it is done here."""
    return freeswitch.compose("exec", "-T", "freeswitch", "sh", "-c", f'fs_cli -p $ROOMLINE_ESL_SECRET -x "{command}"').stdout


async def test_given_freeswitch_then_calls_end_as_their_numbers_say(freeswitch: Composition) -> None:
    assert "Calls can come." in freeswitch.roomline("check")
    right = await freeswitch.whole_call("2000", "--pin", "1234")
    assert (right.status, right.outcome) == (0, "in the room"), right.text
    assert right.heard(TONE) > 3.0
    wrong = await freeswitch.whole_call("2000", "--pin", "9999")
    assert (wrong.status, wrong.outcome) == (1, "wrong PIN")
    nobody = await freeswitch.whole_call("2099")
    assert (nobody.status, nobody.outcome, nobody.told["sip_status"]) == (1, "refused", 404)


async def test_given_a_call_when_roomline_is_restarted_then_the_caller_notices_nothing(freeswitch: Composition) -> None:
    call = await freeswitch.call("2000", "--pin", "1234", "--talk", "25")
    await call.says(f"hears    {TONE}")
    freeswitch.restart("roomline")
    story = await call.told()
    assert (story.status, story.outcome) == (0, "in the room")
    assert story.longest_without(TONE) < 0.5, story.text


async def test_given_a_call_when_the_node_is_restarted_then_the_caller_is_back_in_the_room(freeswitch: Composition) -> None:
    """There is no music on hold in this FreeSWITCH: in between they hear nothing."""
    call = await freeswitch.call("2000", "--pin", "1234", "--talk", "30")
    await call.says(f"hears    {TONE}")
    freeswitch.restart("node")
    story = await call.told()
    assert (story.status, story.outcome) == (0, "in the room"), story.text
    assert story.order(TONE, MUSIC, FALLBACK) == [TONE], story.text
    assert 0.5 < story.longest_without(TONE) < 12.0, story.text
    freeswitch.up()


async def test_given_a_call_when_freeswitch_is_restarted_then_the_call_is_cut_and_the_next_one_comes_through(
    freeswitch: Composition,
) -> None:
    call = await freeswitch.call("2000", "--pin", "1234", "--talk", "40")
    await call.says(f"hears    {TONE}")
    freeswitch.restart("freeswitch")
    story = await call.told()
    assert (story.status, story.outcome) == (1, "cut off"), story.text
    freeswitch.up()
    assert (await freeswitch.whole_call("2000", "--pin", "1234")).status == 0


async def test_given_no_roomline_then_the_caller_gets_the_fallback(freeswitch: Composition) -> None:
    freeswitch.compose("stop", "-t", "2", "roomline")
    try:
        story = await freeswitch.whole_call("2000", "--pin", "1234")
        assert story.status == 1
        assert story.heard(FALLBACK) > 1.0, story.text
    finally:
        freeswitch.up()


async def test_given_a_call_that_talks_then_the_commands_of_the_page_show_what_it_says(freeswitch: Composition) -> None:
    call = await freeswitch.call("2000", "--pin", "1234", "--talk", "25")
    await call.says(f"hears    {TONE}")
    (channel,) = [line for line in fs_cli(freeswitch, "show channels").splitlines() if ",2000," in line]
    uuid = channel.partition(",")[0]
    assert f"roomline-{uuid}" in fs_cli(freeswitch, "show tasks")
    counts: list[int] = []
    for _ in range(2):
        fs_cli(freeswitch, f"uuid_set_media_stats {uuid}")
        counts.append(int(fs_cli(freeswitch, f"uuid_getvar {uuid} rtp_audio_in_packet_count")))
    assert 0 < counts[0] < counts[1]
    assert "Channel-Read-Codec-Name: PCMU" in fs_cli(freeswitch, f"uuid_dump {uuid}")
    assert "DTMF-MODE" in fs_cli(freeswitch, "sofia status profile everybody")
    assert (await call.told()).status == 0


async def test_given_freeswitch_when_its_files_and_its_event_socket_are_reloaded_then_calls_come_as_before(
    freeswitch: Composition,
) -> None:
    assert "+OK" in fs_cli(freeswitch, "reloadxml")
    before = freeswitch.compose("logs", "roomline").stdout.count("PBX connected")
    fs_cli(freeswitch, "reload mod_event_socket")
    deadline = time.monotonic() + 30
    while freeswitch.compose("logs", "roomline").stdout.count("PBX connected") == before:
        assert time.monotonic() < deadline, freeswitch.http("/readyz")
        await asyncio.sleep(0.5)
    assert "Calls can come." in freeswitch.roomline("check")
    assert (await freeswitch.whole_call("2000", "--pin", "1234")).status == 0


def test_given_the_containers_then_none_has_rights_or_is_reached_from_elsewhere(freeswitch: Composition) -> None:
    published = dict.fromkeys(("roomline", "freeswitch"), PUBLISHED_HERE)
    assert freeswitch.rights() == {**published, "node": UNPUBLISHED}
