"""A sync's memory goes back to the system when it is free."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SIZE = 32 * 1024 * 1024
_PROGRAM = f"""
from atlas_etl.cli.memory import give_back_at_once
give_back_at_once()
import pyarrow as pa
print(pa.default_memory_pool().backend_name)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * {os.sysconf("SC_PAGE_SIZE")}
before = resident()
for _ in range(3):
    pieces = [bytes([1]) * ({_SIZE} // 4) for _ in range(4)]
    held = resident() - before
    fence = bytes([1]) * 64
    del pieces
print(held >= {_SIZE}, resident() - before < {_SIZE} // 4)
"""


@pytest.mark.parametrize("pool", ["", "mimalloc"])
def test_free_memory_goes_back_to_the_system(pool: str) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from Linux's /proc")
    environment = {**os.environ, **({"ARROW_DEFAULT_MEMORY_POOL": pool} if pool else {})}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == [pool or "system", "True", "True"]
