"""Real processes for tests: a server with its worker, or a worker alone, on data of the test's own."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tamis
from tamis.commands.app import app

START_SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    url: str
    client: tamis.Client
    process: "subprocess.Popen[bytes]"
    data: Path
    log: Path


@contextmanager
def serving(data: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`tamis serve` on a free port, with its worker unless `--no-worker` is among the options."""
    port = () if "--port" in options else ("--port", "0")
    with tamis_process("serve", *port, "--data", str(data), *options, data=data, env=env) as (process, log):
        url = await_line(log, r"Tamis serves (\S+),", process)
        with tamis.Client(url) as client:
            yield Server(url, client, process, data, log)


class Restarting:
    """A server that may be killed and is then started again on the same port and data."""

    def __init__(self, data: Path, env: Mapping[str, str] | None = None) -> None:
        self._data, self._env, self._running = data, env, ExitStack()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.server = self._start()

    def _start(self) -> Server:
        options = ("--no-worker", "--port", str(self._port))
        return self._running.enter_context(serving(self._data, *options, env=self._env))

    def kill(self) -> None:
        os.kill(self.server.process.pid, signal.SIGKILL)
        self.server.process.wait()

    def restart(self) -> None:
        self.server = self._start()

    def close(self) -> None:
        self._running.close()


@contextmanager
def working(
    data: Path, name: str, *options: str, env: Mapping[str, str] | None = None, first: str = ""
) -> Iterator[Any]:
    """`tamis worker` under a fixed id; yields its process once it takes jobs."""
    arguments = ("worker", "--id", name, "--data", str(data), *options)
    with tamis_process(*arguments, data=data, env=env, first=first) as (process, log):
        await_line(log, r"takes jobs from", process)
        yield process


@contextmanager
def tamis_process(
    *arguments: str, data: Path, env: Mapping[str, str] | None = None, first: str = ""
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Any `tamis` command as a process of its own, ended by SIGTERM if it is still there.

    first: a program that runs before the command in its process, to set what only tests set.
    """
    data.mkdir(parents=True, exist_ok=True)
    log = data / f"{arguments[0]}-{time.monotonic_ns()}.log"
    tamis_itself = ["-m", "tamis.commands.cli"]
    if first:
        tamis_itself = ["-c", f"{first}\nfrom tamis.commands.cli import main\nraise SystemExit(main())"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *tamis_itself, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """What a command line means: the arguments of the command's function, defaults filled in."""
    bound = app.parse_args(words)[1]
    bound.apply_defaults()
    return bound.arguments


def await_line(log: Path, pattern: str, process: "subprocess.Popen[bytes]") -> str:
    """The first group (or the whole) of the pattern's first match in a growing log."""

    def look() -> str | None:
        assert process.poll() is None, log.read_text()
        found = re.search(pattern, log.read_text())
        return found.group(found.lastindex or 0) if found else None

    return until(look, START_SECONDS, f"{pattern!r} in {log}")


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The condition's first true value; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}")
