"""Where a Redis is looked for, and what is said when there is none. That the unpacked one runs is what tests/store stand on."""

import os
from pathlib import Path

import pytest

from bridge.testing.redis_server import NoRedis, get_redis_server


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_given_one_on_the_path_then_it_is_taken(tmp_path: Path, name: str) -> None:
    there = program(tmp_path / name)
    assert get_redis_server(environ={"PATH": str(tmp_path)}) == (str(there),)


def test_given_one_in_the_cache_then_it_runs_by_its_own_loader(tmp_path: Path) -> None:
    root = tmp_path / "roomline" / f"redis-1-{os.uname().machine}" / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/lib64").mkdir()
    loader = program(root / "usr/lib64/ld-linux-any.so.2")
    there = program(root / "usr/bin/redis-server")
    command = get_redis_server(environ={"PATH": "", "XDG_CACHE_HOME": str(tmp_path)})
    assert (command[0], command[-1]) == (str(loader), str(there))


def test_given_no_apt_then_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoRedis, match="apt install redis-server"):
        get_redis_server(environ={"PATH": "", "XDG_CACHE_HOME": str(tmp_path)})
    assert [path.name for path in (tmp_path / "roomline").iterdir()] == ["redis.lock"]
