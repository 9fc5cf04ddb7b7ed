"""The stack: a real PBX (Asterisk or FreeSWITCH), a real carrier and Roomline's server between PBX and rooms, on loopback, ended together.

    async with Stack(configuration) as stack:
        call = await stack.carrier.call("+15550100")

What tests/real, the benches and the demo share; what is called and expected is theirs.
"""

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from bridge.errors import RoomlineError
from bridge.testing.carrier import Carrier
from bridge.testing.freeswitch_process import RealSwitchPbx
from bridge.testing.freeswitch_scripted import ScriptedSwitchPbx
from bridge.testing.get_asterisk import Asterisk, get_asterisk
from bridge.testing.get_freeswitch import FreeSwitch
from bridge.testing.pbx import OperatorPbx
from bridge.testing.ports import LOOPBACK, free_port
from bridge.testing.priority import behind_others
from bridge.testing.server import Server
from bridge.testing.stack_pbx import StackCarrier, StackPbx

Configuration = Mapping[str, Any]
"""What an operator writes into roomline.yaml, as YAML gives it. Places and secrets are the stack's own, whatever stands there: the
manager's, the records', where media and http listen; the store's and the API's (where there is one at all) too where none is given."""


class Stack:
    """`async with Stack(configuration)`.

    `freeswitch` is the PBX where it is given, else an Asterisk; the carrier is an Asterisk in both cases. `scripted`: the PBX and its
    callers are the scripted FreeSWITCH (`freeswitch_scripted`), in this process, and neither of the two is needed. `keep` is where logs,
    sounds and configuration stay; without it they go with the stack. `with_server=False` leaves Roomline out until `stack.server.start()`;
    `program` is the `roomline` of another installation. `progress` is told what is being waited for, a line each.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        asterisk: Asterisk | None = None,
        freeswitch: FreeSwitch | None = None,
        scripted: bool = False,
        keep: Path | None = None,
        public: tuple[str, int] | None = None,
        lease: int = 3,
        calls_at_once: int = 50,
        with_server: bool = True,
        program: Sequence[str] = (),
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._configuration = configuration
        self._asterisk = asterisk
        self._freeswitch = freeswitch
        self._scripted = scripted
        self._keep = keep
        self._public = public
        self._lease = lease
        self._calls_at_once = calls_at_once
        self._with_server = with_server
        self._program = program
        self._progress = progress
        self._left = AsyncExitStack()
        self._at_rest: Counter[str] = Counter()
        self.folder = Path()
        self.http_address = f"{LOOPBACK}:{free_port()}"
        self.api_address = str(self._given("api").get("listen") or f"{LOOPBACK}:{free_port()}")
        self.pbx: StackPbx
        self.carrier: StackCarrier
        self.server: Server

    @property
    def asterisk(self) -> OperatorPbx:
        """The PBX, in a stack whose PBX is an Asterisk."""
        if not isinstance(self.pbx, OperatorPbx):
            raise TypeError(f"the PBX of this stack is {self.pbx.description}")
        return self.pbx

    @property
    def asterisk_carrier(self) -> Carrier:
        """The carrier, in a stack whose PBX speaks SIP."""
        if not isinstance(self.carrier, Carrier):
            raise TypeError("who calls in this stack is scripted")
        return self.carrier

    async def start(self) -> None:
        """A second or two; the first time on a machine, some more for Asterisk's download. Raises NoAsterisk, AsteriskFailed,
        FreeSwitchFailed, ServerFailed; nothing is left running then."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        await self._make_pbx_and_carrier()
        self._left.push_async_callback(self.pbx.stop)
        self._left.push_async_callback(self.carrier.stop)
        try:
            with behind_others():
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.pbx.start())
                    group.create_task(self.carrier.start())
        except* RoomlineError as errors:
            raise errors.exceptions[0] from None
        config, store = self._write_configuration()
        self.server = Server(config, store, self.pbx, self.folder / "roomline.log", self._program)
        self._left.push_async_callback(self.server.end_workers)
        self._left.push_async_callback(self.server.stop)
        if self._with_server:
            self._progress("starting Roomline")
            await self.server.start()
            self._at_rest = self.server.open_files()

    def logs(self) -> list[Path]:
        """What Roomline has written so far: the server, and each node that it has started."""
        return [self.server.log, *sorted((self.folder / "run").glob("*.log*"))]

    async def _make_pbx_and_carrier(self) -> None:
        if self._scripted:
            self.folder = self._make_folder()
            self.pbx = pbx = ScriptedSwitchPbx(self.folder / "pbx", api_address=self.api_address)
            self.carrier = pbx.carrier
            return
        asterisk = self._asterisk
        if asterisk is None:
            asterisk = await asyncio.to_thread(get_asterisk, self._progress)
        self.folder = self._make_folder()
        self.pbx = self._make_real_pbx(asterisk)
        self._progress(f"starting a PBX ({self.pbx.description}) and a carrier (Asterisk {asterisk.version})")
        self.carrier = carrier = Carrier(asterisk, self.folder / "carrier", calls_at_once=self._calls_at_once)
        carrier.default_to = self.pbx.sip_address

    def _make_real_pbx(self, asterisk: Asterisk) -> StackPbx:
        folder, calls = self.folder / "pbx", self._calls_at_once
        if self._freeswitch is not None:
            return RealSwitchPbx(self._freeswitch, folder, calls_at_once=calls, public=self._public, api_address=self.api_address)
        return OperatorPbx(asterisk, folder, calls_at_once=calls, public=self._public, lease=self._lease, outbound=self._calls_out())

    async def stop(self) -> None:
        """Ends everything, the server first. Idempotent."""
        try:
            await self._left.aclose()
        finally:
            if self._keep is None and self.folder != Path():
                await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def nothing_left(self, within: float = 6.0) -> None:
        """Returns once no call has left anything behind: no channel at the PBX or the carrier, no socket or file in the server beyond
        those it had at its start. Raises AssertionError, naming what is left."""
        deadline = time.monotonic() + within
        await self.pbx.quiet(within)
        while left := await self._left_at_carrier_and_server():
            assert time.monotonic() < deadline, f"left after {within} s: {left}"  # noqa: S101  (for tests)
            await asyncio.sleep(0.05)

    async def _left_at_carrier_and_server(self) -> list[str]:
        left = await self.carrier.channels()
        if self.server.running:
            more = self.server.open_files() - self._at_rest
            left += [f"{count} × {name}" for name, count in more.items() if not name.startswith(str(self.server.store))]
        return left

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def _make_folder(self) -> Path:
        if self._keep is None:
            return Path(tempfile.mkdtemp(prefix="roomline-stack-"))
        folder = self._keep.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("pbx", "carrier"):  # of an earlier run
            if any((folder / name / "etc" / file).is_file() for file in ("asterisk.conf", "freeswitch.xml")):
                shutil.rmtree(folder / name)
        for leftover in (*folder.glob("roomline.db*"), folder / "roomline.log", *folder.glob("run/*.log*")):
            leftover.unlink(missing_ok=True)
        return folder

    def _write_configuration(self) -> tuple[Path, Path]:
        """roomline.yaml with this run's ports, its secrets in files of their own."""
        path, store = self.folder / "roomline.yaml", self.folder / "roomline.db"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(self._whole_configuration(), sort_keys=False, allow_unicode=True))
        return path, store

    def _whole_configuration(self) -> dict[str, Any]:
        """What was given, with this run's places and secrets laid over it."""
        pbx = self._configuration.get("pbx")
        first = pbx[0] if isinstance(pbx, list) and pbx and isinstance(pbx[0], Mapping) else {}
        asked = self.pbx.api_section(self._secret)
        api = {"api": {**asked, **self._given("api"), "listen": self.api_address}} if "api" in self._configuration or asked else {}
        return {
            **self._configuration,
            **api,
            "pbx": [self.pbx.section(first, self._secret)],
            "media": {**self._given("media"), "listen": f"{LOOPBACK}:0", "sockets": str(self.folder / "run")},
            "http": {**self._given("http"), "listen": self.http_address},
            "store": self._configuration.get("store", f"sqlite:///{self.folder / 'roomline.db'}"),
            "records": f"sqlite:///{self.folder / 'roomline.db'}",
        }

    def control_by(self, port: int) -> None:
        """From its next start on the server finds the PBX's control connection at this port."""
        whole = yaml.safe_load(self.server.config.read_text())
        whole["pbx"][0][self.pbx.control]["port"] = port
        self.server.config.write_text(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))

    def _calls_out(self) -> bool:
        pbx = self._configuration.get("pbx")
        return bool(pbx and pbx[0].get("outbound_endpoints"))

    def _given(self, section: str) -> Mapping[str, Any]:
        given = self._configuration.get(section)
        return given if isinstance(given, Mapping) else {}

    def _secret(self, name: str, value: str) -> dict[str, str]:
        path = self.folder / f"{name}.secret"
        path.touch(mode=0o600)
        path.write_text(value)
        return {"file": str(path)}
