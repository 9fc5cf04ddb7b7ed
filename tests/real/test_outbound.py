"""A real Asterisk by which Roomline may call out: what the check says of it. Who is called, and what becomes of it, is a scenario."""

from pathlib import Path

import pytest

from bridge.pbx.asterisk.options import AsteriskOptions
from bridge.pbx.asterisk.setup_check import check_asterisk
from bridge.testing.get_asterisk import Asterisk
from bridge.testing.pbx import OperatorPbx
from bridge.testing.pbx_config import OUT_ENDPOINT

pytestmark = pytest.mark.asyncio


async def test_given_this_asterisk_then_the_check_finds_the_way_out_and_calls_nobody(asterisk: Asterisk, tmp_path: Path) -> None:
    async with OperatorPbx(asterisk, tmp_path, outbound=True) as pbx:
        manager = pbx.settings.roomline
        options = AsteriskOptions(
            "pbx", port=manager.port, user=manager.user, secret=manager.secret, outbound_endpoints={"ST_out": OUT_ENDPOINT}
        )
        texts = [finding.text for finding in await check_asterisk(options) if finding.ok]
        assert "the user roomline may call out" in texts
        assert f"calls out have the endpoint {OUT_ENDPOINT}" in texts
        assert await pbx.channels() == []
