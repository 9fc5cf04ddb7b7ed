"""The manager's secret and the digits of callers: in no log, no repr and no error, whatever goes wrong."""

import asyncio
import logging

import pytest
from structlog.testing import capture_logs

from bridge.errors import Unavailable
from bridge.pbx.asterisk.options import AsteriskOptions
from bridge.testing.ami_server import AmiServer, silence
from tests.pbx.asterisk.stage import SECRET, until, wire_options, wired


def test_given_options_then_their_repr_has_no_secret() -> None:
    assert SECRET not in repr(wire_options(5038))
    assert SECRET not in repr(AsteriskOptions("hq", secret=SECRET))
    assert SECRET not in repr(AsteriskOptions("hq", secret=SECRET).wire())


async def test_given_every_kind_of_trouble_then_no_secret_and_no_digit_is_logged_or_told(
    server: AmiServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    told: list[str] = []
    with capture_logs() as logs:
        server.refuses_login = True
        async with wired(server, up=False, action_timeout=1.0) as on:
            await until(lambda: on.downs)
            server.refuses_login = False
            server.script("Login", silence)
            await until(lambda: len(on.downs) == 2)
            server.script("Login", server.well_behaved)
            await until(lambda: on.wire.connected)
            server.script("Setvar", silence)
            with pytest.raises(Unavailable) as error:
                await on.wire.action("Setvar", {"Variable": "V", "Value": "73519046"})
            told.append(str(error.value))
            server.event("DTMFEnd", {"Digit": "73519046"})
            server.send(b"Event: UserEvent\r\nEvent: 73519046\r\n\r\n")
            await until(lambda: on.ups == 2)
            told += [repr(item) for item in on.items] + [repr(on.wire), *on.downs]
    everything = "\n".join([repr(logs), caplog.text, *told, *capsys.readouterr()])
    assert "refused the user" in everything
    assert SECRET not in everything
    assert "73519046" not in everything
