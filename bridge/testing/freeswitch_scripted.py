"""The scripted FreeSWITCH as the operator's PBX: in this process, by the dialplan files that a real one gets, with its callers. It costs no
process and needs no SIP, so that everything can be tried on it everywhere.

To Roomline's server, which is a process of its own, it is a FreeSWITCH: an event socket, and the audio of calls as datagrams.
"""

from pathlib import Path
from typing import Final

from bridge.testing.child import Child
from bridge.testing.freeswitch import FreeSwitchServer
from bridge.testing.freeswitch_caller import SwitchCarrier
from bridge.testing.freeswitch_calls import Callee
from bridge.testing.freeswitch_config import switch_file
from bridge.testing.freeswitch_dialplan import Dialplan
from bridge.testing.freeswitch_pbx import SwitchPbx
from bridge.testing.ports import LOOPBACK

_CALLEES: Final = {
    "lab-leave": Callee(leaves_after=0.5),
    "lab-ring": Callee(answers_after=None),
    "lab-late": Callee(answers_after=4.0),
}
_REJECT: Final = "lab-reject-"


def callee(number: str) -> Callee:
    """Who is called answers, but for those of the operator's `lab-…` that do something else (pbx_config)."""
    return Callee(status=number.removeprefix(_REJECT)) if number.startswith(_REJECT) else _CALLEES.get(number, Callee())


class ScriptedSwitchPbx(SwitchPbx):
    """`async with ScriptedSwitchPbx(folder)`."""

    description = "a scripted FreeSWITCH"

    def __init__(self, folder: Path, *, api_address: str = f"{LOOPBACK}:1") -> None:
        super().__init__(folder, api_address=api_address)
        self.server = FreeSwitchServer(self.settings.password, port=self.settings.event_port)
        self.server.calls.dialplan = Dialplan(switch_file(self.settings, folder))
        self.server.calls.callee = callee
        self.carrier = SwitchCarrier(self.server, self.settings.carrier_host)
        self._listens = False

    @property
    def child(self) -> Child:
        raise RuntimeError("a scripted FreeSWITCH is no process of its own")

    async def start(self) -> None:
        await self.stop()
        await self.server.__aenter__()
        self._listens = self.carrier.running = True
        await self.connect_admin()

    async def stop(self) -> None:
        await self.forget_admin()
        await self.kill()

    async def kill(self) -> None:
        """Its sockets are closed, and its calls gone without a word to anybody."""
        self.carrier.running = False
        if self._listens:
            self._listens = False
            self.server.thaw()
            await self.server.__aexit__()
        await self.forget_admin()

    async def callees_hang_up(self) -> None:
        """Who was called has no channel of their own here."""
        for channel in list(self.server.channels.values()):
            if channel.direction == "outbound":
                channel.caller_hangs_up()

    def freeze(self) -> None:
        self.server.freeze()

    def thaw(self) -> None:
        self.server.thaw()
