"""What a decision costs: the trunk step and the dispatch step with their traces, at 10, 1,000 and 100,000 rules and 10,000 trunks.

    ./run bench dispatch [--decisions 200000] [--rounds 40] [--sizes 10,1000,100000] [--changes-at 10000,100000]

Every decision is timed by itself, with Python's garbage collection running as in the server. Each size has a process of its own, so that
its memory can be told. After each decision a piece of work is timed that has nothing to do with us but reads memory as we do: its p99 says
how much other programs disturbed a round. What counts is the p99 of all decisions in the quieter half of the rounds; that of all is told
too. Then what one more rule costs, and one less, in the shape that back ends make: a rule for each meeting, all of one trunk, told apart
by their PINs. The last line is JSON.
"""

import argparse
import gc
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median

from bridge.dispatch.directory import Directory
from bridge.dispatch.evaluate import PlainMatcher
from bridge.dispatch.index import Index
from bridge.dispatch.outcome import Accept, AskPin, Dispatcher, VerdictKind
from bridge.model.rule import DirectRule, DispatchRule, Rule
from tests.bench.dispatch_calls import Call, calls, directory
from tests.bench.report import finish, percentile, say

TARGET = 50.0  # µs, p99 at 100,000 rules, DESIGN §14
TARGET_RULES = 100_000
TRUNKS = 10_000
SIZES = (10, 1_000, 100_000)
PLAIN_RULES = 1_000  # the plain matcher is measured up to here; beyond, a decision takes seconds
PLAIN_DECISIONS = 60
CHANGES_AT = (10_000, 100_000)
CHANGES = 2_000


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds."""

    p50: float
    p99: float
    p999: float
    longest: float

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> "Times":
        micro = [each / 1000 for each in nanoseconds]
        return cls(*(round(percentile(micro, percent), 2) for percent in (50, 99, 99.9, 100)))


@dataclass(frozen=True, slots=True)
class Size:
    """One size's figures. Times in µs, of the quieter half of the rounds but for `longest` and `p99_of_all_rounds`; memory in MiB, the
    index's beyond the directory itself; garbage collections while measuring."""

    rules: int
    trunks: int
    decisions: int
    p50: float
    p99: float
    p999: float
    longest: float
    p99_of_all_rounds: float
    rounds: int
    by_kind: dict[str, Times]
    outcomes: dict[str, int]
    build_seconds: float
    index_mib: float
    directory_mib: float
    garbage_collections: int
    longest_collection_ms: float
    plain_p50: float | None
    plain_over_index_p50: float | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What one more rule, and one less, costs an index of so many; times in µs."""

    rules: int
    put: Times
    remove: Times
    build_seconds: float
    build_over_put_p50: float


def meeting(number: int) -> DispatchRule:
    kind = Rule(dispatch_rule_direct=DirectRule(room_name=f"meeting-{number}", pin=f"{number:08}"))
    return DispatchRule(sip_dispatch_rule_id=f"SDR_{number * 7919 % 10**8:08}", rule=kind, trunk_ids=("ST_carrier",))


def measure_changes(rules: int) -> Changes:
    begin = time.perf_counter()
    index = Index(Directory(rules=tuple(map(meeting, range(rules)))), b"chance")
    build_seconds = time.perf_counter() - begin
    gc.collect()
    gc.freeze()
    put, removed = [], []
    for number in range(rules, rules + CHANGES):
        rule = meeting(number)
        begin_ns = time.perf_counter_ns()
        done = index.change_rules((rule,), ())
        put.append(time.perf_counter_ns() - begin_ns)
        assert done
    for number in range(0, rules, max(1, rules // CHANGES)):
        gone = meeting(number).sip_dispatch_rule_id
        begin_ns = time.perf_counter_ns()
        index.change_rules((), (gone,))
        removed.append(time.perf_counter_ns() - begin_ns)
    of_put = Times.of(put)
    return Changes(rules, of_put, Times.of(removed), round(build_seconds, 2), round(build_seconds * 1e6 / of_put.p50))


class Collections:
    """Python's garbage collections between `__enter__` and `__exit__`."""

    def __init__(self) -> None:
        self.count, self.longest, self._since = 0, 0.0, 0

    def __enter__(self) -> "Collections":
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: object) -> None:
        if phase == "start":
            self._since = time.perf_counter_ns()
        else:
            self.count += 1
            self.longest = max(self.longest, (time.perf_counter_ns() - self._since) / 1e6)


def decide(dispatcher: Dispatcher, call: Call) -> str:
    """Both steps, as the story takes them. Says what became of the call."""
    verdict = dispatcher.authorise(call.caller)
    if verdict.kind is VerdictKind.REFUSED:
        return f"refused {verdict.status}"
    decision = dispatcher.dispatch(
        call.caller, verdict, call_id="SCL_abcdefghijkm", room_suffix=lambda: "abcdefghijkm", pin=call.pin, no_pin=call.no_pin
    )
    if isinstance(decision, Accept):
        return "accepted"
    return "PIN wanted" if isinstance(decision, AskPin) else f"refused {decision.status}"


class Reference:
    """Adds up a few numbers that lie anywhere in 32 MiB."""

    SIZE = 1 << 20
    EACH = 40

    def __init__(self) -> None:
        self._numbers = [float(number) for number in range(self.SIZE)]
        Random(1).shuffle(self._numbers)
        self._next = 0

    def work(self) -> float:
        self._next = (self._next + self.EACH) % self.SIZE
        return sum(self._numbers[self._next : self._next + self.EACH])


@dataclass(frozen=True, slots=True)
class Round:
    """Nanoseconds of each decision, and the reference's p99 meanwhile."""

    decisions: list[int]
    disturbance: float


def timed(dispatcher: Dispatcher, mix: Sequence[Call], reference: Reference) -> Round:
    clock, decisions, references = time.perf_counter_ns, [], []
    for call in mix:
        begin = clock()
        decide(dispatcher, call)
        decided = clock()
        reference.work()
        references.append(clock() - decided)
        decisions.append(decided - begin)
    return Round(decisions, percentile(references, 99))


def measure(rules: int, trunks: int, decisions: int, rounds: int) -> Size:
    before = _resident()
    configured = directory(rules, trunks)
    gc.collect()
    of_directory = _resident()
    begin = time.perf_counter()
    index = Index(configured, b"chance")
    build_seconds = time.perf_counter() - begin
    gc.collect()
    of_index = _resident()
    mix, reference = calls(decisions // rounds, rules), Reference()
    timed(index, mix, reference)  # what is slow once only
    with Collections() as collections:
        every = [timed(index, mix, reference) for _ in range(rounds)]
    quiet = sorted(every, key=lambda one: one.disturbance)[: max(1, rounds // 2)]
    by_kind: dict[str, list[int]] = {}
    outcomes: dict[str, int] = {}
    for one in quiet:
        for call, taken in zip(mix, one.decisions, strict=True):
            by_kind.setdefault(call.kind, []).append(taken)
    for call in mix:
        outcome = decide(index, call)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    whole, all_rounds = (Times.of([taken for one in chosen for taken in one.decisions]) for chosen in (quiet, every))
    plain = _plain(configured, mix, reference) if rules <= PLAIN_RULES else None
    return Size(
        rules=rules,
        trunks=trunks,
        decisions=len(mix) * rounds,
        p50=whole.p50,
        p99=whole.p99,
        p999=whole.p999,
        longest=all_rounds.longest,
        p99_of_all_rounds=all_rounds.p99,
        rounds=rounds,
        by_kind={kind: Times.of(taken) for kind, taken in sorted(by_kind.items())},
        outcomes=dict(sorted(outcomes.items())),
        build_seconds=round(build_seconds, 2),
        index_mib=round(of_index - of_directory, 1),
        directory_mib=round(of_directory - before, 1),
        garbage_collections=collections.count,
        longest_collection_ms=round(collections.longest, 2),
        plain_p50=plain,
        plain_over_index_p50=round(plain / whole.p50, 1) if plain is not None else None,
    )


def _plain(configured: Directory, mix: Sequence[Call], reference: Reference) -> float:
    return round(median(timed(PlainMatcher(configured), mix[:PLAIN_DECISIONS], reference).decisions) / 1000, 1)


def _resident() -> float:
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def run_changes(sizes: Sequence[int]) -> list[Changes]:
    measured = []
    for rules in sizes:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            changes = process.submit(measure_changes, rules).result()
        say(f"· {rules:,} rules: one more costs p50 {changes.put.p50} µs, p99 {changes.put.p99} µs; one less p50 {changes.remove.p50} µs,")
        say(f"  p99 {changes.remove.p99} µs; a new index {changes.build_seconds} s, {changes.build_over_put_p50:,} times as long")
        measured.append(changes)
    return measured


def run(sizes: Sequence[int], trunks: int, decisions: int, rounds: int, changes_at: Sequence[int]) -> dict[str, object]:
    """The figures of all sizes, and whether the target is met (None if its size was not measured)."""
    measured: list[Size] = []
    for rules in sizes:
        say(f"· {rules:,} rules, {trunks:,} trunks: {rounds} rounds of {decisions // rounds:,} decisions")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            size = process.submit(measure, rules, trunks, decisions, rounds).result()
        say(f"  p50 {size.p50} µs, p99 {size.p99} µs in the quieter rounds; p99 of all rounds {size.p99_of_all_rounds} µs")
        say(f"  index built in {size.build_seconds} s, {size.index_mib} MiB; {size.garbage_collections} garbage collections")
        if size.plain_p50 is not None:
            say(f"  plain matcher: p50 {size.plain_p50} µs, {size.plain_over_index_p50} times as long")
        measured.append(size)
    met = [size.p99 <= TARGET for size in measured if size.rules == TARGET_RULES]
    return {
        "target": {"rules": TARGET_RULES, "p99_us": TARGET},
        "met": met[0] if met else None,
        "sizes": [asdict(size) for size in measured],
        "changes": [asdict(changes) for changes in run_changes(changes_at)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench dispatch", description="What a decision costs.")
    parser.add_argument("--decisions", type=int, default=200_000, help="at each size")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--trunks", type=int, default=TRUNKS)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of rules, with commas between")
    parser.add_argument("--changes-at", default=",".join(map(str, CHANGES_AT)), help="numbers of rules to which one more is added")
    options = parser.parse_args()
    sizes, changes_at = ([int(size) for size in text.split(",") if size] for text in (options.sizes, options.changes_at))
    finish("dispatch", run(sizes, options.trunks, options.decisions, options.rounds, changes_at))


if __name__ == "__main__":
    main()
