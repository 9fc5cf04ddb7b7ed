"""What a stack asks of its PBX and of who calls, whichever they are; and the figures that are a PBX's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from bridge.testing.carrier import CarrierCall
from bridge.testing.carrier_config import Keys
from bridge.testing.child import Child
from bridge.testing.phone import Stream
from bridge.testing.recording import Samples

Secret = Callable[[str, str], Mapping[str, str]]
"""Puts a secret into a file by that name; gives what refers to it in roomline.yaml."""


@dataclass(frozen=True, slots=True)
class DeathLimits:
    """What an answered caller gets at this PBX when the process dies that carries their sound: the server, and none comes; or a node of its
    own. Seconds after it."""

    fallback: tuple[float, float]
    """Between these the operator's fallback is heard."""
    silence: float
    """The longest time with nothing to hear."""
    heard_before: Sequence[tuple[float, ...]]
    """Tones, by their frequencies, that are heard on the way there."""
    silence_of_node: float
    """The longest time with nothing to hear when only the node dies or freezes, and another one takes its calls."""
    silence_of_server: float
    """The same when the server and its node die, and another server comes at once."""


@dataclass(frozen=True, slots=True)
class PasswordDoor:
    """Where callers with a user and a password call, and the SIP statuses that those get who do not come in."""

    address: tuple[str, int]
    asks_with: int
    """Who gives none."""
    turns_away_with: int
    """Who gives others."""
    knows_nobody_with: int
    """Who gives those of a trunk that is no more."""


class StackPbx(Protocol):
    """The operator's PBX."""

    control: str
    """The key of roomline.yaml below which its control connection stands."""
    death_limits: DeathLimits
    counts: Sequence[Stream]
    """What callers may send that is no sound, and that it counts all the same: they are there."""
    keeps_who_was_refused: bool
    """Whether callers are still there whose transfer was refused by its target, after their own side had taken the REFER."""

    @property
    def description(self) -> str: ...
    @property
    def sip_address(self) -> tuple[str, int]: ...
    @property
    def passwords(self) -> PasswordDoor: ...
    @property
    def control_port(self) -> int: ...
    @property
    def secrets(self) -> Sequence[str]: ...
    @property
    def child(self) -> Child:
        """Its process; RuntimeError for one that has none of its own."""

    def section(self, given: Mapping[str, Any], secret: Secret) -> dict[str, Any]: ...
    def api_section(self, secret: Secret) -> Mapping[str, Any]: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    async def controller(self) -> str: ...
    async def channels(self) -> Sequence[object]: ...
    async def quiet(self, within: float = ...) -> None: ...
    async def callees_hang_up(self) -> None:
        """Whoever was called and is up: extensions of its own, `lab-…` (pbx_config)."""


class Answer(Protocol):
    """To a SIP request."""

    @property
    def status(self) -> int: ...


class StackPhone(Protocol):
    """The phone of one caller, who does what no well-behaved carrier does: `phone.Phone` where the PBX speaks SIP. `async with` it."""

    caller: str

    @property
    def ended_by_pbx(self) -> bool: ...
    async def call(self, number: str, timeout: float = ...) -> Answer: ...
    def send(self, stream: Stream) -> None: ...
    def stop_sending(self) -> None: ...
    async def press(self, keys: str) -> None: ...
    async def hold(self, direction: str = ...) -> Answer: ...
    async def hang_up(self) -> None: ...
    async def ended(self, timeout: float) -> None: ...
    def heard_samples(self, since: int = ...) -> Samples:
        """Of all that came, 8,000 a second, those from this one on."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class StackCarrier(Protocol):
    """Who calls: `carrier.Carrier` where the PBX speaks SIP."""

    calls: list[CarrierCall]

    @property
    def sip_address(self) -> tuple[str, int]:
        """Where its calls come from, and where callers may be handed on to."""

    async def call(
        self,
        number: str,
        *,
        caller: str = ...,
        name: str = ...,
        headers: Mapping[str, str] | None = ...,
        codec: str = ...,
        keys: Keys = ...,
        ring_for: float = ...,
    ) -> CarrierCall: ...
    def phone(self, *, refer_answer: str = ..., refer_status: int = ...) -> StackPhone:
        """One of its own, that has nothing to do with the carrier's calls. `refer_…`: see `phone.Phone`."""

    async def channels(self) -> list[str]:
        """The names of the channels that are up."""

    async def hang_up_all(self) -> None:
        """Whatever is up there, calls that were handed on included."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
