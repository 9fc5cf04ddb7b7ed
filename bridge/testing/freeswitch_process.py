"""A FreeSWITCH that this machine has, as the operator's PBX: one process with Roomline's files, on loopback, without root."""

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path

from bridge.errors import RoomlineError, Unavailable
from bridge.testing.child import Child
from bridge.testing.freeswitch_config import switch_file
from bridge.testing.freeswitch_pbx import SwitchPbx
from bridge.testing.get_freeswitch import FreeSwitch
from bridge.testing.listening import tone
from bridge.testing.pbx_config import HOLD_MUSIC_HZ
from bridge.testing.ports import LOOPBACK
from bridge.testing.recording import save_wav

_READY_WITHIN = 30.0


class FreeSwitchFailed(RoomlineError):  # noqa: N818  (the text is the log's last lines)
    """The FreeSWITCH ended or did not get ready."""


class RealSwitchPbx(SwitchPbx):
    """`async with RealSwitchPbx(freeswitch, folder)`."""

    def __init__(
        self,
        freeswitch: FreeSwitch,
        folder: Path,
        *,
        calls_at_once: int = 50,
        public: tuple[str, int] | None = None,
        api_address: str = f"{LOOPBACK}:1",
    ) -> None:
        super().__init__(folder, calls_at_once=calls_at_once, public=public, api_address=api_address)
        self._freeswitch = freeswitch
        self._child: Child | None = None
        self._runtime: Path | None = None

    @property
    def description(self) -> str:
        return f"FreeSWITCH {self._freeswitch.version}"

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("this FreeSWITCH has not been started")
        return self._child

    async def kill(self) -> None:
        """SIGKILL. `start` brings it back at the same places, with no calls."""
        await self.child.kill()
        await self.forget_admin()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send(signal.SIGCONT)

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
            await self.connect_admin()
            profiles = await self.admin.api("sofia status")
            return profiles.count("RUNNING") >= profiles.count("\tprofile\t") > 0
        except Unavailable:
            await self.forget_admin()
            return False

    async def stop(self) -> None:
        """Idempotent."""
        try:
            await self.forget_admin()
            if self._child is not None:
                await self._child.stop()
        finally:
            if self._runtime is not None:
                shutil.rmtree(self._runtime, ignore_errors=True)

    def _last_lines(self) -> str:
        return "\n".join(self.child.output().splitlines()[-15:]) + f"\n(all of it: {self.child.log})"
