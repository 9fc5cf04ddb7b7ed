"""The operator's PBX for tests and the demo, as a FreeSWITCH: what a stack asks of it, whether it is a real one or the scripted one. All of
it is asked as an administrator would, by the event socket. The counterpart of `pbx.OperatorPbx`.
"""

import asyncio
import contextlib
import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bridge.errors import Unavailable
from bridge.testing.child import Child
from bridge.testing.esl import EventSocket
from bridge.testing.freeswitch_config import SwitchSettings
from bridge.testing.phone import COMFORT_NOISE, Stream
from bridge.testing.ports import LOOPBACK, free_port, free_rtp_range
from bridge.testing.stack_pbx import DeathLimits, PasswordDoor

_HEARTBEAT: Final = "roomline_heartbeat"


class SwitchPbx(ABC):
    """`async with …(folder)`. What it has logged stays in folder/log."""

    control = "esl"
    death_limits = DeathLimits(fallback=(5.0, 12.0), silence=12.0, heard_before=(), silence_of_node=8.0, silence_of_server=8.0)
    """Nothing tells a FreeSWITCH of a dead node: who comes in its place, or the lease, ends the silence (docs/decisions.md). A new process
    has what is left of 10 s."""
    counts: Sequence[Stream] = (COMFORT_NOISE,)
    """A payload type that was never negotiated it drops before it counts (switch_rtp.c)."""
    keeps_who_was_refused = False
    """It drops the dialog with the REFER's subscription (signalwire/freeswitch#3059)."""

    def __init__(
        self,
        folder: Path,
        *,
        carrier_host: str = "127.0.0.2",
        calls_at_once: int = 50,
        public: tuple[str, int] | None = None,
        api_address: str = f"{LOOPBACK}:1",
    ) -> None:
        """`api_address`: Roomline's API, whose directory it asks about callers with a password."""
        self.folder = folder
        self.settings = SwitchSettings(
            event_port=free_port(),
            password=secrets.token_urlsafe(18),
            sip_port=free_port(),
            password_sip_port=free_port(),
            rtp=free_rtp_range(calls_at_once, "0.0.0.0"),  # noqa: S104  (only to see that they are free)
            hold_music=folder / "music",
            carrier_host=carrier_host,
            directory=api_address,
            directory_secret=secrets.token_urlsafe(18),
            public=public,
        )
        self._admin: EventSocket | None = None

    @property
    @abstractmethod
    def description(self) -> str: ...

    @property
    @abstractmethod
    def child(self) -> Child: ...

    @abstractmethod
    async def start(self) -> None: ...
    @abstractmethod
    async def stop(self) -> None: ...
    @abstractmethod
    async def kill(self) -> None:
        """SIGKILL, or what looks the same to everybody else. `start` brings it back at the same places, with no calls."""

    @abstractmethod
    def freeze(self) -> None: ...
    @abstractmethod
    def thaw(self) -> None: ...

    @property
    def sip_address(self) -> tuple[str, int]:
        """Where it listens on loopback."""
        return LOOPBACK, self.settings.sip_port

    @property
    def passwords(self) -> PasswordDoor:
        """A profile of its own, that asks everybody."""
        return PasswordDoor((LOOPBACK, self.settings.password_sip_port), 407, 403, 403)

    @property
    def control_port(self) -> int:
        return self.settings.event_port

    @property
    def secrets(self) -> Sequence[str]:
        return (self.settings.password, self.settings.directory_secret)

    @property
    def admin(self) -> EventSocket:
        if self._admin is None:
            raise RuntimeError("the PBX has not been started")
        return self._admin

    def section(self, given: Mapping[str, Any], secret: Callable[[str, str], Mapping[str, str]]) -> dict[str, Any]:
        """Its section of roomline.yaml, with what an operator says besides; `secret` puts one into a file and gives the reference."""
        esl = {"host": LOOPBACK, "port": self.settings.event_port, "secret": secret("esl", self.settings.password)}
        names = {"trusted_endpoints": "trusted_users", "outbound_endpoints": "outbound_gateways"}
        return {"name": "pbx", **{names.get(key, key): value for key, value in given.items()}, "kind": "freeswitch", "esl": esl}

    def api_section(self, secret: Callable[[str, str], Mapping[str, str]]) -> Mapping[str, Any]:
        """What it needs of the API."""
        return {"directory": {"secret": secret("directory", self.settings.directory_secret)}}

    async def controller(self) -> str:
        """Which controller it heard last; empty for none."""
        beat = await self.admin.api(f"global_getvar {_HEARTBEAT}")
        return "" if beat.startswith("-") else beat.rpartition(":")[0]

    async def channels(self) -> Sequence[Mapping[str, str]]:
        """The channels that are up, as `show channels` tells them (uuid, name, context, application, callstate, …)."""
        rows: list[dict[str, str]] = json.loads(await self.admin.api("show channels as json")).get("rows", [])
        return rows

    async def quiet(self, within: float = 5.0) -> None:
        """Returns once no channel and no lease is left. Raises AssertionError, naming those that are left after `within` seconds."""
        deadline = time.monotonic() + within
        while left := await self._left():
            if time.monotonic() > deadline:
                raise AssertionError(f"left on the PBX after {within} s: {', '.join(left)}")
            await asyncio.sleep(0.05)

    async def callees_hang_up(self) -> None:
        """Whoever was called and is up: extensions of its own, `lab-…` (freeswitch_config)."""
        for channel in await self.channels():
            if channel["direction"] == "inbound" and channel["dest"].startswith("lab-"):
                await self.admin.api(f"uuid_kill {channel['uuid']}")

    async def _left(self) -> list[str]:
        left = [f"{one['name']} in {one['context']} ({one['application']})" for one in await self.channels()]
        tasks = json.loads(await self.admin.api("show tasks as json")).get("rows", [])
        return left + [f"the scheduled {task['task_group']}" for task in tasks if task["task_group"].startswith("roomline-")]

    async def connect_admin(self) -> None:
        """Raises Unavailable."""
        if self._admin is None:
            self._admin = await EventSocket.connect(LOOPBACK, self.settings.event_port, self.settings.password)

    async def forget_admin(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            with contextlib.suppress(Unavailable):
                await admin.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()
