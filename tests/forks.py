"""A process that has the libraries loaded, whose forks are the command `atlas`: half the time of a small one.

Our own modules are loaded by each fork, as a shell's `atlas` loads them; its streams, arguments, environment
and folder are its own, and it ends as any process does. What a library reads of its environment while it is
loaded is that of the first process, so `runner` leaves what is given other variables to an interpreter.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Protocol

_LIBRARIES = (
    "adbc_driver_sqlite.dbapi", "asyncio", "croniter", "cryptography.hazmat.primitives.ciphers.aead",
    "duckdb", "msgspec", "numpy", "psycopg", "pyarrow.compute", "pyarrow.parquet", "pydantic_settings",
    "pymysql", "requests", "rich.progress", "rich.table", "sqlalchemy", "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite", "tenacity", "typer", "yaml",
)  # fmt: skip
_AS_THE_COMMAND = {"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}  # cli/memory.py


class Run(Protocol):
    def __call__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        given: str,
        timeout: float,
        module: str = "atlas_etl",
    ) -> subprocess.CompletedProcess[str]:
        """`python -m MODULE ARGUMENTS` to its end in a session of its own, its outputs as texts.

        `given` is its standard input. Raises TimeoutExpired once it is killed.
        """


def runner(more: Mapping[str, str]) -> Run:
    """How to run a command whose environment has these beside what every command has."""
    own = all(name.startswith("ATLAS_") or name == "TMPDIR" for name in more)
    if own and sys.platform == "linux" and "COVERAGE_PROCESS_START" not in os.environ:
        return forked
    return interpreted


def interpreted(
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    given: str,
    timeout: float,
    module: str = "atlas_etl",
) -> subprocess.CompletedProcess[str]:
    """By an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=env,
        input=given,
        capture_output=True,
        encoding="utf-8",
        start_new_session=True,
        timeout=timeout,
        check=False,
    )


def forked(
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    given: str,
    timeout: float,
    module: str = "atlas_etl",
) -> subprocess.CompletedProcess[str]:
    """By a fork; of Python's own variables it hears PYTHONPATH."""
    stdin, feed = os.pipe()
    out, stdout = os.pipe()
    err, stderr = os.pipe()
    told, answer = os.pipe()
    asked = {"arguments": [*arguments], "cwd": str(cwd), "env": dict(env), "module": module}
    try:
        socket.send_fds(_requests(), [json.dumps(asked).encode()], [stdin, stdout, stderr, answer])
    finally:
        for end in (stdin, stdout, stderr, answer):
            os.close(end)
    with ThreadPoolExecutor(4) as pool, open(told, "rb") as ending:
        pool.submit(_write, feed, given.encode())
        said, complained = pool.submit(_read, out), pool.submit(_read, err)
        process = int(ending.readline())
        code = pool.submit(ending.read)
        try:
            code.result(timeout)
        except TimeoutError as late:
            os.killpg(process, signal.SIGKILL)
            raise subprocess.TimeoutExpired([module, *arguments], timeout) from late
    return subprocess.CompletedProcess(
        [module, *arguments], int(code.result()), said.result().decode(), complained.result().decode()
    )


def _write(end: int, given: bytes) -> None:
    with suppress(BrokenPipeError), open(end, "wb") as pipe:
        pipe.write(given)


def _read(end: int) -> bytes:
    with open(end, "rb") as pipe:
        return pipe.read()


@functools.cache
def _requests() -> socket.socket:
    """Where to ask the process for a command; it ends with this one."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, __file__, str(there.fileno())],
            cwd="/",
            env={**kept, **_AS_THE_COMMAND},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
        )

    def end() -> None:
        here.close()
        process.wait()

    atexit.register(end)
    return here


def _serve(requests: socket.socket) -> None:
    for name in _LIBRARIES:
        with suppress(ImportError):  # that of an extra
            importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the tests end it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how the attendants ended
    while True:
        text, ends, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not text:
            return
        if os.fork() == 0:
            requests.close()
            _attend(json.loads(text), ends)
        for end in ends:
            os.close(end)


def _attend(asked: dict[str, object], ends: Sequence[int]) -> None:
    """Wait for the command, and tell its process and its exit code; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, answer = ends
    process = os.fork()
    if process == 0:
        os.close(answer)
        _become(asked, streams)
    for stream in streams:
        os.close(stream)
    os.write(answer, f"{process}\n".encode())
    _, status = os.waitpid(process, 0)
    os.write(answer, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(asked: dict[str, object], streams: Sequence[int]) -> NoReturn:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments, environment, folder = asked["arguments"], asked["env"], asked["cwd"]
    assert isinstance(arguments, list)
    assert isinstance(environment, dict)
    os.chdir(str(folder))
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path[:1] = [str(folder), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[1:] = arguments
    runpy.run_module(str(asked["module"]), run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        _serve(asking)
