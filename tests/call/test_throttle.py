"""The buckets behind the limit of wrong PINs."""

import asyncio

from bridge.call.options import Bucket, ThrottleOptions
from bridge.call.throttle import KEYS_KEPT, Guess, Throttle
from bridge.errors import Unavailable
from bridge.testing.fakes import MemoryStore
from bridge.testing.time_travel import LoopClock, travel

OPTIONS = ThrottleOptions(source=Bucket(3, 10.0), called=Bucket(100, 1.0), rule=Bucket(5, 60.0))


class BrokenTries(MemoryStore):
    async def keep_level(self, key: str, level: object) -> None:
        raise Unavailable("disk full")


def test_given_a_bucket_when_it_is_full_then_time_gives_one_guess_after_the_other() -> None:
    async def story() -> None:
        throttle = Throttle(OPTIONS, MemoryStore(), LoopClock())
        guess = Guess("203.0.113.7", "+15550100", "SDR_1")
        assert [await throttle.charge(guess) for _ in range(4)] == [True, True, True, False]
        await asyncio.sleep(9)
        assert not throttle.may_guess(guess)
        await asyncio.sleep(2)
        assert await throttle.charge(guess)
        assert not await throttle.charge(guess)
        # Another source is not its fault, but the rule's own count goes on.
        assert await throttle.charge(Guess("203.0.113.8", "+15550100", "SDR_1"))
        assert not await throttle.charge(Guess("203.0.113.9", "+15550100", "SDR_1"))
        assert await throttle.charge(Guess("203.0.113.9", "+15550100", "SDR_2"))

    travel(story())


def test_given_a_guess_that_was_refused_then_nothing_is_charged_for_it() -> None:
    async def story() -> None:
        store = MemoryStore()
        throttle = Throttle(OPTIONS, store, LoopClock())
        for _ in range(10):
            await throttle.charge(Guess("203.0.113.7", "", "SDR_1"))
        assert store.tries["rule:SDR_1"].level == 3

    travel(story())


def test_given_a_right_guess_then_it_is_given_back() -> None:
    async def story() -> None:
        throttle = Throttle(OPTIONS, MemoryStore(), LoopClock())
        guess = Guess("203.0.113.7", "", "")
        for _ in range(50):
            assert await throttle.charge(guess)
            await throttle.give_back(guess)
        assert [await throttle.charge(guess) for _ in range(4)] == [True, True, True, False]

    travel(story())


def test_given_many_guesses_at_the_same_moment_then_no_more_than_the_burst_pass() -> None:
    async def story() -> None:
        throttle = Throttle(OPTIONS, MemoryStore(), LoopClock())
        guess = Guess("203.0.113.7", "+15550100", "SDR_1")
        assert sum(await asyncio.gather(*(throttle.charge(guess) for _ in range(100)))) == 3

    travel(story())


def test_given_a_restart_then_the_count_goes_on_where_it_stood() -> None:
    async def story() -> None:
        store, guess = MemoryStore(), Guess("203.0.113.7", "+15550100", "SDR_1")
        first = Throttle(OPTIONS, store, LoopClock())
        while await first.charge(guess):
            pass
        second = Throttle(OPTIONS, store, LoopClock())
        await second.load()
        assert not second.may_guess(guess)
        await asyncio.sleep(10_000)
        third = Throttle(OPTIONS, store, LoopClock())
        await third.load()
        assert third.may_guess(guess)
        assert store.tries == {}

    travel(story())


def test_given_a_store_that_fails_then_counting_goes_on_in_memory() -> None:
    async def story() -> None:
        throttle = Throttle(OPTIONS, BrokenTries(), LoopClock())
        guess = Guess("203.0.113.7", "", "")
        assert [await throttle.charge(guess) for _ in range(4)] == [True, True, True, False]

    travel(story())


def test_given_ever_new_numbers_and_addresses_then_memory_stays_bounded_and_the_rule_is_not_forgotten() -> None:
    async def story() -> None:
        store = MemoryStore()
        wide = ThrottleOptions(source=Bucket(3, 1e6), called=Bucket(3, 1e6), rule=Bucket(10**6, 1e6))
        throttle = Throttle(wide, store, LoopClock())
        for number in range(KEYS_KEPT):
            assert await throttle.charge(Guess(f"source {number}", "9" * 65536, "SDR_1") if number < 1 else Guess(str(number), "", "SDR_1"))
        assert throttle.counted <= KEYS_KEPT
        assert store.tries["rule:SDR_1"].level > KEYS_KEPT - 1
        assert all(len(key) <= 128 for key in store.tries)

    travel(story())
