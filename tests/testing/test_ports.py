"""Ports for servers that cannot choose their own: nobody is given one that another was just given."""

import asyncio
import sys

from bridge.testing.ports import free_port

CHILD = "from bridge.testing.ports import free_port; print(*(free_port() for _ in range(100)))"


def test_given_many_askers_in_one_process_then_each_gets_another_port() -> None:
    ports = [free_port() for _ in range(250)]  # of 4,800: without memory, two of them were the same nearly always
    assert len(set(ports)) == len(ports)


async def test_given_a_process_beside_us_then_it_gets_none_of_ours() -> None:
    ours = {free_port() for _ in range(250)}
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    theirs = {int(word) for word in out.split()}
    assert len(theirs) == 100
    assert not theirs & ours
