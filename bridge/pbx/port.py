"""What the story of a call needs of a phone system: legs, their events, and nothing of how AMI or ESL say it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from bridge.model.caller import Caller
from bridge.model.credentials import Refusal, TrunkCredentials
from bridge.model.ending import Ending, EndReason
from bridge.model.media_address import Carriage, MediaAddress


@dataclass(frozen=True, slots=True)
class Digit:
    """One key press (`0-9 * # A-D`), whatever the DTMF mode; reported when the key is let go."""

    digit: str


@dataclass(frozen=True, slots=True)
class MediaLost:
    """The audio connection ended while the call goes on: hold music, and waiting for `connect` until the lease runs out."""


@dataclass(frozen=True, slots=True)
class Held:
    """The caller put us on hold."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The caller is back from hold."""


@dataclass(frozen=True, slots=True)
class ControlLost:
    """The connection to the PBX broke: commands raise `Unavailable` until `ControlBack`; digits pressed meanwhile are lost."""


@dataclass(frozen=True, slots=True)
class ControlBack:
    """The connection to the PBX is there again and the leg still up."""


LegEvent = Digit | MediaLost | Held | Resumed | ControlLost | ControlBack


class TransferFailure(StrEnum):
    """Why a caller was not handed on, as far as it is not the other side's refusal. Found by the story, not by a PBX."""

    NO_CALL = "no call"  # it had ended before it was asked
    NOT_TALKING = "not talking"  # or its sound is just being brought back
    ELSEWHERE = "elsewhere"  # a transfer to another target is under way
    NOT_SENT = "not sent"  # the PBX could not be told
    TIMED_OUT = "timed out"
    CALL_ENDED = "call ended"  # by us, while the transfer was under way


@dataclass(frozen=True, slots=True)
class TransferResult:
    """What became of a transfer: `sip_status` of the target's final answer where the PBX tells it. Not ok without a `failure`: refused."""

    ok: bool
    sip_status: int | None = None
    reason: str = ""
    failure: TransferFailure | None = None


@dataclass(frozen=True, slots=True)
class DialRequest:
    """Somebody to be called. `to`: a number, or the user of a SIP address, that may be called (`model/target.py`), `trunk_id` the outbound
    trunk, whose way out is the PBX's. `number` and `name` are shown to who is called; `headers` go into the INVITE. `limit`: seconds for
    an answer."""

    trunk_id: str
    to: str
    number: str
    name: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    limit: float = 30.0


@dataclass(frozen=True, slots=True)
class PbxHealth:
    """One look at the phone system. `detail` is a sentence for a person when something is wrong."""

    connected: bool
    version: str = ""
    detail: str = ""


class Leg(Protocol):
    """One phone call, held by the PBX. Its end (`reject`, `fall_back`, `hang_up`) is brought about once the PBX can be told again, when it
    could not be told at once.

    Commands raise `LegGone` once the call has ended, `Unavailable` when the PBX does not answer in time, `Superseded` when a newer
    controller has taken over. No other error leaves an adapter.
    """

    @property
    def id(self) -> str:
        """The PBX's own id of the call: unique, the same after our restart."""

    @property
    def pbx(self) -> str:
        """The operator's name of the PBX."""

    @property
    def caller(self) -> Caller: ...

    @property
    def note(self) -> str | None:
        """What an earlier controller remembered on the call (`model.note`), None for a new call."""

    @property
    def answered(self) -> bool:
        """Whether the caller has been answered, by anybody; stays true after the end."""

    @property
    def carriage(self) -> Carriage:
        """How the call's audio travels: what the address for `connect` is asked for by."""

    async def ring(self) -> None:
        """Send 180 and keep ringing; goes to the operator's fallback when no controller is alive for 5 s."""

    async def reject(self, status: int) -> None:
        """End the unanswered call with exactly this SIP status (400–699)."""

    async def fall_back(self) -> None:
        """Hand the call to the operator's fallback; the leg ends with `fell_back` set."""

    async def connect(self, address: MediaAddress, answer_headers: Mapping[str, str] | None = None) -> None:
        """Answer if needed, then send the call's audio to this address. Called again, the call moves to the new address."""

    def set_media_lease(self, seconds: int) -> None:
        """How long the PBX leaves the call's audio with the node when it hears nothing of us; from the next `connect` or renewal on.
        The adapter renews it as long as we live, and has a short one of its own until this is called."""

    def events(self) -> AsyncIterator[LegEvent]:
        """What happens on the call from now on, in order, to one reader; ends when the leg has ended."""

    async def locate(self) -> None:
        """The call's audio is gone, and nobody said why: see where the PBX has it. Taken elsewhere by somebody, the leg ends (`taken_away`)
        and is left to them; else the loss is told as `MediaLost`."""

    async def received_packets(self) -> int | None:
        """How many RTP packets of any kind have come from the caller so far: another number than before means that some came since. None
        where the PBX cannot tell, as of a call that is no SIP call."""

    async def send_digits(self, digits: str) -> None:
        """Send `0-9 * # A-D` to the phone; `w` pauses half a second."""

    async def transfer(self, to: str, headers: Mapping[str, str], *, dial_tone: bool = False) -> TransferResult:
        """Hand the caller to `to` (a SIP or tel URI, checked by who asks) by REFER; returns when the outcome is known, after a minute at
        the latest. `dial_tone`: the caller hears one meanwhile (425 Hz, 1 s on, 4 s off). Cancelled, or refused, the caller is back with
        the next `connect`."""

    async def remember(self, note: str) -> None:
        """Keep `note` (ASCII, a few KB) on the call in the PBX, instead of the one before; survives us."""

    async def hang_up(self, reason: EndReason) -> None:
        """End the call. Idempotent: no error if it has ended."""

    async def picked_up(self) -> None:
        """Returns once who was called has answered; at once on a call that came in and is answered. Never, where they do not."""

    async def ended(self) -> Ending:
        """Returns once the call has ended or was taken to the fallback, and again at once when asked again."""


class Pbx(Protocol):
    """One phone system."""

    @property
    def name(self) -> str: ...

    async def run(self) -> None:
        """Keep the connection; returns only when cancelled (or raises `Superseded`). Everything else works while this runs."""

    async def dial(self, request: DialRequest) -> Leg:
        """Call somebody. Returns once the PBX calls them, before they answer; `Leg.picked_up` and `Leg.ended` tell the rest, the latter
        with the status of a refusal. Should nobody be there for the call when they answer, it ends within seconds. Raises Unavailable,
        `CannotDial` where the PBX has no way there."""

    def can_dial(self, trunk_id: str) -> bool:
        """Whether this PBX has a way out by this trunk."""

    def keep_credentials(self, trunks: Sequence[TrunkCredentials]) -> None:
        """Have the PBX ask the callers of these trunks for their credentials from now on, and of no others; what is not ours there is
        left alone. Done in the background, within a second as long as the PBX answers, and again whenever it was away."""

    def refusals(self) -> AsyncIterator[Refusal]:
        """Callers whom the PBX did not let in because of their credentials, to one reader."""

    def legs(self) -> AsyncIterator[Leg]:
        """New calls and, after a (re)start of ours, those still up in our contexts; never one that fell back, never one twice."""

    async def health(self) -> PbxHealth: ...
