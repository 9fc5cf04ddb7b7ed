"""The operator's PBX for tests and the demo: an Asterisk with Roomline's dialplan, and an administrator's look at its channels."""

import asyncio
import secrets
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.testing.ami import Ami, Message
from bridge.testing.asterisk_process import AsteriskProcess, Manager
from bridge.testing.child import Child
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.listening import tone
from bridge.testing.pbx_config import HOLD_MUSIC_HZ, PbxSettings, pbx_files
from bridge.testing.phone import COMFORT_NOISE, UNKNOWN, Stream
from bridge.testing.ports import LOOPBACK, free_port, free_rtp_range
from bridge.testing.recording import save_wav
from bridge.testing.stack_pbx import DeathLimits, PasswordDoor

_HEARTBEAT = "ROOMLINE_HEARTBEAT"
"""The dialplan's global that a controller sets as `epoch:controller:count` (dialplan/asterisk/roomline.conf)."""


class OperatorPbx:
    """`async with OperatorPbx(asterisk, folder)`. `settings.roomline` is Roomline's manager user, `settings.admin` the tests'."""

    control = "ami"
    death_limits = DeathLimits(fallback=(3.0, 8.0), silence=0.5, heard_before=(HOLD_MUSIC_HZ,), silence_of_node=4.0, silence_of_server=3.0)
    """The end of a call's stream tells it that the node is gone."""
    counts: Sequence[Stream] = (COMFORT_NOISE, UNKNOWN)
    keeps_who_was_refused = True

    def __init__(
        self,
        asterisk: Asterisk,
        folder: Path,
        *,
        carrier_host: str = "127.0.0.2",
        calls_at_once: int = 50,
        public: tuple[str, int] | None = None,
        lease: int = 3,
        outbound: bool = False,
    ) -> None:
        """`outbound`: Roomline may have it call somebody."""
        port = free_port()
        self.settings = PbxSettings(
            admin=Manager(LOOPBACK, port, "admin", secrets.token_urlsafe(18)),
            roomline=Manager(LOOPBACK, port, "roomline", secrets.token_urlsafe(18)),
            ari_secret=secrets.token_urlsafe(18),
            http_port=free_port(),
            sip_port=free_port(),
            # The same ports on every address: a caller from elsewhere gets them too.
            rtp=free_rtp_range(calls_at_once, "0.0.0.0"),  # noqa: S104  (only to see that they are free)
            hold_music=folder / "music",
            carrier_host=carrier_host,
            public=public,
            lease=lease,
            outbound=outbound,
        )
        self.description = f"Asterisk {asterisk.version}"
        self.process = AsteriskProcess(asterisk, folder, pbx_files(self.settings), self.settings.admin)
        self._admin: Ami | None = None

    @property
    def sip_address(self) -> tuple[str, int]:
        """Where it listens on loopback."""
        return LOOPBACK, self.settings.sip_port

    @property
    def passwords(self) -> PasswordDoor:
        """Asked by the number that is called, and by no other."""
        return PasswordDoor(self.sip_address, 401, 401, 404)

    @property
    def control_port(self) -> int:
        return self.settings.roomline.port

    @property
    def secrets(self) -> Sequence[str]:
        return (self.settings.roomline.secret, self.settings.ari_secret)

    @property
    def child(self) -> Child:
        return self.process.child

    def section(self, given: Mapping[str, Any], secret: Callable[[str, str], Mapping[str, str]]) -> dict[str, Any]:
        """Its section of roomline.yaml, with what an operator says besides; `secret` puts one into a file and gives the reference."""
        manager = self.settings.roomline
        ami = {"host": manager.host, "port": manager.port, "user": manager.user, "secret": secret("ami", manager.secret)}
        ari = {"url": f"http://{LOOPBACK}:{self.settings.http_port}", "secret": secret("ari", self.settings.ari_secret)}
        return {"name": "pbx", **given, "kind": "asterisk", "ami": ami, "ari": ari}

    def api_section(self, secret: Callable[[str, str], Mapping[str, str]]) -> Mapping[str, Any]:
        """What it needs of the API: nothing."""
        del secret
        return {}

    async def controller(self) -> str:
        """Which controller it heard last; empty for none."""
        return (await self.variable(_HEARTBEAT)).rpartition(":")[0]

    @property
    def admin(self) -> Ami:
        if self._admin is None:
            raise RuntimeError("the PBX has not been started")
        return self._admin

    async def channels(self) -> list[Message]:
        """The channels that are up, as CoreShowChannels tells them (Channel, Context, Application, ChannelStateDesc, …)."""
        return await self.admin.collect("CoreShowChannels", "CoreShowChannel", "CoreShowChannelsComplete")

    async def quiet(self, within: float = 5.0) -> None:
        """Returns once no channel is left. Raises AssertionError, naming those that are left after `within` seconds."""
        deadline = time.monotonic() + within
        while left := await self.channels():
            if time.monotonic() > deadline:
                names = ", ".join(f"{one['Channel']} in {one['Context']} ({one['Application']})" for one in left)
                raise AssertionError(f"channels left on the PBX after {within} s: {names}")
            await asyncio.sleep(0.05)

    async def callees_hang_up(self) -> None:
        """Whoever was called and is up: extensions of its own, `lab-…` (pbx_config)."""
        for channel in await self.channels():
            if channel["Context"] == "lab":
                await self.admin.ask("Hangup", Channel=channel["Channel"])

    async def variable(self, name: str, channel: str = "") -> str:
        """A channel's variable, or a global one."""
        if channel:
            return (await self.admin.ask("Getvar", Variable=name, Channel=channel))["Value"]
        return (await self.admin.ask("Getvar", Variable=name))["Value"]

    async def kill(self) -> None:
        """SIGKILL. `start` brings it back at the same places, with no calls."""
        await self.process.child.kill()
        await self._forget_admin()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.child.send(signal.SIGCONT)

    async def _forget_admin(self) -> None:
        if self._admin is not None:
            await self._admin.close()
            self._admin = None

    async def start(self) -> None:
        save_wav(self.settings.hold_music / "hold.wav", tone(8000, 10.0, HOLD_MUSIC_HZ, -18.0), 8000)
        try:
            await self.process.start()
            self._admin = await self.settings.admin.connect()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        try:
            await self._forget_admin()
        finally:
            await self.process.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()
