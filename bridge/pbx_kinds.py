"""The kinds of PBX: the one place that knows them all. Their keys are read with every configuration; what talks to one is loaded only where
one is configured, for some of it costs every process memory, and a server nothing but risk."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from pydantic import Discriminator, Tag

from bridge.model.credentials import TrunkCredentials
from bridge.model.finding import Finding
from bridge.pbx.asterisk.section import Asterisk
from bridge.pbx.freeswitch.section import FreeSwitch
from bridge.pbx.port import Pbx
from bridge.sections import Part


def _kind_of(data: Any) -> Any:
    return data.get("kind", "asterisk") if isinstance(data, Mapping) else getattr(data, "kind", None)


PbxSection = Annotated[
    Annotated[Asterisk, Tag("asterisk")] | Annotated[FreeSwitch, Tag("freeswitch")],
    Discriminator(
        _kind_of, custom_error_type="pbx_kind", custom_error_message="kind: a PBX is asterisk (where it is left out) or freeswitch"
    ),
]
"""One of `pbx` in the configuration."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """`connect` and `check` take the kind's section, and whether this server's API answers what a PBX asks of callers with a password."""

    section: type[Part]
    connect: Callable[[Any, bool], Pbx]
    check: Callable[[Any, bool, Sequence[TrunkCredentials]], Awaitable[Sequence[Finding]]]


def _connect_asterisk(section: Asterisk, _serves_directory: bool) -> Pbx:
    from bridge.pbx.asterisk.pbx import AsteriskPbx  # noqa: PLC0415  (loaded where one is configured)

    return AsteriskPbx(section.options())


async def _check_asterisk(section: Asterisk, _serves_directory: bool, trunks: Sequence[TrunkCredentials]) -> Sequence[Finding]:
    from bridge.pbx.asterisk.credentials_check import check_credentials  # noqa: PLC0415  (as above)
    from bridge.pbx.asterisk.setup_check import check_asterisk  # noqa: PLC0415  (as above)

    options = section.options()
    return [*await check_asterisk(options), *await check_credentials(options, trunks)]


def _connect_freeswitch(section: FreeSwitch, serves_directory: bool) -> Pbx:
    from bridge.pbx.freeswitch.pbx import FreeSwitchPbx  # noqa: PLC0415  (as above)

    return FreeSwitchPbx(replace(section.options(), has_directory=serves_directory))


async def _check_freeswitch(section: FreeSwitch, serves_directory: bool, trunks: Sequence[TrunkCredentials]) -> Sequence[Finding]:
    from bridge.pbx.freeswitch.setup_check import check_freeswitch  # noqa: PLC0415  (as above)

    return await check_freeswitch(replace(section.options(), has_directory=serves_directory), trunks)


_KINDS: Final[Mapping[str, _Kind]] = {
    "asterisk": _Kind(Asterisk, _connect_asterisk, _check_asterisk),
    "freeswitch": _Kind(FreeSwitch, _connect_freeswitch, _check_freeswitch),
}

PBX_SECTIONS: Final[Mapping[str, type[Part]]] = {name: kind.section for name, kind in _KINDS.items()}
"""The keys of each kind, by its name."""


def connect_pbx(section: PbxSection, *, serves_directory: bool) -> Pbx:
    """A PBX that this section says how to reach; it connects when it runs."""
    return _KINDS[section.kind].connect(section, serves_directory)


async def check_pbx(section: PbxSection, trunks: Sequence[TrunkCredentials], *, serves_directory: bool) -> Sequence[Finding]:
    """What is still to be done to it before it can send calls here. `trunks`: those with a user and a password."""
    return await _KINDS[section.kind].check(section, serves_directory, trunks)
