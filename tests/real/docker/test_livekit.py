"""The same with LiveKit's rooms: two callers in one room hear each other, also while services are restarted under them."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
import yaml

from bridge.testing.hearing import MUSIC, RINGBACK, a_tone_of
from tests.real.docker.composition import PUBLISHED_HERE, UNPUBLISHED, Composition, Story

HERTZ = (600.0, 1300.0)
FIRST, SECOND = (a_tone_of(hertz) for hertz in HERTZ)


async def two_callers(livekit: Composition, meanwhile: Callable[[], object] | None, talk: float) -> tuple[Story, Story]:
    """In one room, each with a tone; `meanwhile` happens once they hear each other."""
    first = await livekit.call("2000", "--pin", "1234", "--talk", str(talk + 8), "--hertz", str(HERTZ[0]))
    await first.says(f"hears    {RINGBACK}")
    second = await livekit.call("2000", "--pin", "1234", "--talk", str(talk), "--hertz", str(HERTZ[1]))
    await asyncio.gather(first.says(f"hears    {SECOND}"), second.says(f"hears    {FIRST}"))
    if meanwhile is not None:
        await asyncio.to_thread(meanwhile)
    one, other = await asyncio.gather(first.told(), second.told())
    return one, other


async def test_given_livekit_then_two_callers_hear_each_other(livekit: Composition) -> None:
    first, second = await two_callers(livekit, None, talk=8.0)
    assert (first.status, second.status) == (0, 0)
    assert first.order(RINGBACK, SECOND) == [RINGBACK, SECOND], "alone in the room they hear ringback"
    assert first.heard(SECOND) > 5.0
    assert second.heard(FIRST) > 5.0


def test_given_the_containers_then_none_has_rights_or_is_reached_from_elsewhere(livekit: Composition) -> None:
    published = dict.fromkeys(("roomline", "asterisk", "livekit"), PUBLISHED_HERE)
    assert livekit.rights() == {**published, **dict.fromkeys(("node", "redis"), UNPUBLISHED)}


def test_given_livekit_and_nobody_in_the_room_then_the_carriers_four_calls_go_as_they_should(livekit: Composition) -> None:
    demo = livekit.carrier("demo")
    assert (demo.returncode, demo.stdout.count("as it should be")) == (0, 4), demo.stdout + demo.stderr
    assert "gives up: CANCEL" in demo.stdout


@pytest.mark.parametrize("service", ["roomline", "redis"])
async def test_given_two_callers_when_a_service_that_carries_no_sound_is_restarted_then_they_notice_nothing(
    livekit: Composition, service: str
) -> None:
    first, second = await two_callers(livekit, partial(livekit.restart, service), talk=25.0)
    assert (first.status, second.status) == (0, 0)
    assert first.longest_without(SECOND) < 1.0, first.text
    assert second.longest_without(FIRST) < 1.0, second.text
    livekit.up()


@pytest.mark.parametrize(
    ("service", "heard_between", "within"),
    [("node", [MUSIC], 12.0), ("livekit", [], 20.0)],
    ids=["node", "livekit"],
)
async def test_given_two_callers_when_what_carries_their_sound_is_restarted_then_they_hear_each_other_again(
    livekit: Composition, service: str, heard_between: list[str], within: float
) -> None:
    """Without a node, hold music; without LiveKit, a faint noise for `rooms.lost_limit` at most, and neither music nor ringback."""
    first, second = await two_callers(livekit, partial(livekit.restart, service), talk=50.0)
    assert (first.status, second.status) == (0, 0), first.text + second.text
    for story, other in ((first, SECOND), (second, FIRST)):
        assert story.order(other, MUSIC) == [other, *heard_between, *([other] if heard_between else [])], story.text
        assert story.longest_without(other) < within, story.text
    livekit.up()


async def test_given_objects_in_redis_when_everything_goes_down_and_up_then_they_are_there(livekit: Composition) -> None:
    objects = yaml.safe_dump(
        {
            "trunks": [{"sip_trunk_id": "ST_kept", "name": "made by hand", "numbers": ["2050"]}],
            "dispatch_rules": [
                {
                    "sip_dispatch_rule_id": "SDR_kept",
                    "trunk_ids": ["ST_kept"],
                    "rule": {"dispatch_rule_direct": {"room_name": "kept", "pin": "1234"}},
                }
            ],
        }
    )
    livekit.compose("exec", "-T", "roomline", "sh", "-c", f"cat > /tmp/objects.yaml <<'END'\n{objects}\nEND")
    livekit.roomline("import", "/tmp/objects.yaml", "--yes")
    before = livekit.roomline("export")
    livekit.down()
    livekit.up()
    assert livekit.roomline("export") == before
    assert "ST_kept" in before
    assert (await livekit.whole_call("2050", "--pin", "1234")).status == 0
