"""The operator's PBX for tests and the demo, as a FreeSWITCH: one process with Roomline's files, on loopback, without root, and an
administrator's look at it. The counterpart of `pbx.OperatorPbx`.
"""

import asyncio
import contextlib
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.errors import RoomlineError, Unavailable
from bridge.testing.child import Child
from bridge.testing.esl import EventSocket
from bridge.testing.freeswitch_config import SwitchSettings, switch_file
from bridge.testing.get_freeswitch import FreeSwitch
from bridge.testing.listening import tone
from bridge.testing.pbx_config import HOLD_MUSIC_HZ
from bridge.testing.ports import LOOPBACK, free_port, free_rtp_range
from bridge.testing.recording import save_wav

_READY_WITHIN = 30.0
_HEARTBEAT = "roomline_heartbeat"


class FreeSwitchFailed(RoomlineError):  # noqa: N818  (the text is the log's last lines)
    """The FreeSWITCH ended or did not get ready."""


class SwitchPbx:
    """`async with SwitchPbx(freeswitch, folder)`. What it has logged stays in folder/log."""

    control = "esl"
    notices_lost_audio = False

    def __init__(
        self,
        freeswitch: FreeSwitch,
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
        self._freeswitch = freeswitch
        self._child: Child | None = None
        self._runtime: Path | None = None
        self._admin: EventSocket | None = None

    @property
    def description(self) -> str:
        return f"FreeSWITCH {self._freeswitch.version}"

    @property
    def sip_address(self) -> tuple[str, int]:
        """Where it listens on loopback."""
        return LOOPBACK, self.settings.sip_port

    @property
    def control_port(self) -> int:
        return self.settings.event_port

    @property
    def secrets(self) -> Sequence[str]:
        return (self.settings.password, self.settings.directory_secret)

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("this FreeSWITCH has not been started")
        return self._child

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

    async def _left(self) -> list[str]:
        left = [f"{one['name']} in {one['context']} ({one['application']})" for one in await self.channels()]
        tasks = json.loads(await self.admin.api("show tasks as json")).get("rows", [])
        return left + [f"the scheduled {task['task_group']}" for task in tasks if task["task_group"].startswith("roomline-")]

    async def kill(self) -> None:
        """SIGKILL. `start` brings it back at the same places, with no calls."""
        await self.child.kill()
        await self._forget_admin()

    async def start(self) -> None:
        """Returns once its event socket answers and SIP is there. Raises FreeSwitchFailed."""
        await self.stop()
        save_wav(self.settings.hold_music / "hold.wav", tone(8000, 10.0, HOLD_MUSIC_HZ, -18.0), 8000)
        self._runtime = Path(tempfile.mkdtemp(prefix="roomline-"))
        for name in ("etc", "log", "db"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        path = self.folder / "etc" / "freeswitch.xml"
        path.touch(mode=0o600)
        path.write_text(switch_file(self.settings, self.folder))
        folders = {"conf": self.folder / "etc", "log": self.folder / "log", "db": self.folder / "db", "run": self._runtime}
        command = [
            self._freeswitch.binary,
            "-nf",
            "-nonat",
            *(word for name, place in folders.items() for word in (f"-{name}", str(place))),
        ]
        self._child = Child(command, log=self.folder / "log" / "console.log", folder=self.folder)
        try:
            await self._child.start()
            await self._wait_until_ready()
        except BaseException:
            await self.stop()
            raise

    async def _wait_until_ready(self) -> None:
        try:
            async with asyncio.timeout(_READY_WITHIN):
                while not await self._is_ready():
                    if not self.child.running:
                        raise FreeSwitchFailed(f"FreeSWITCH ended with status {self.child.returncode}:\n{self._last_lines()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise FreeSwitchFailed(f"FreeSWITCH did not get ready within {_READY_WITHIN:.0f} s:\n{self._last_lines()}") from None

    async def _is_ready(self) -> bool:
        try:
            if self._admin is None:
                self._admin = await EventSocket.connect(LOOPBACK, self.settings.event_port, self.settings.password)
            profiles = await self._admin.api("sofia status")
            return profiles.count("RUNNING") >= profiles.count("\tprofile\t") > 0
        except Unavailable:
            await self._forget_admin()
            return False

    async def stop(self) -> None:
        """Idempotent."""
        try:
            await self._forget_admin()
            if self._child is not None:
                await self._child.stop()
        finally:
            if self._runtime is not None:
                shutil.rmtree(self._runtime, ignore_errors=True)

    async def _forget_admin(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            with contextlib.suppress(Unavailable):
                await admin.close()

    def _last_lines(self) -> str:
        return "\n".join(self.child.output().splitlines()[-15:]) + f"\n(all of it: {self.child.log})"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()
