"""What every call needs of the world, put together once by the application, and how calls go."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.call.clock import Clock
from bridge.call.throttle import Throttle
from bridge.dispatch.outcome import Dispatcher
from bridge.media.port import Node, Sound
from bridge.store.port import Journal


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`dispatcher` and `rule_metadata` (the metadata of a rule by its id, empty when it is gone) are asked anew for each call, so that a
    changed configuration counts at once. `choose_node`, `find_sound` and `room_for_more` are the registry's."""

    dispatcher: Callable[[], Dispatcher]
    choose_node: Callable[[], Node]
    find_sound: Callable[[str], Awaitable[Sound | None]]
    room_for_more: Callable[[], bool]
    rule_metadata: Callable[[str], str]
    room_suffix: Callable[[], str]
    throttle: Throttle
    journal: Journal
    clock: Clock
