"""Real processes for tests: a server with its worker, or a worker alone, on data of the test's own."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked

import tamis
from tamis.commands.app import app

START_SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    url: str
    client: tamis.Client
    process: forked.Forked
    data: Path
    log: Path


@contextmanager
def serving(data: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`tamis serve` on a free port, and a worker for it unless `--no-worker` is among the options.

    The worker is not the server's own, which would be started by an interpreter that loads everything anew.
    """
    port = () if "--port" in options else ("--port", "0")
    arguments = ["serve", *port, "--data", str(data), *options]
    if "--no-worker" not in options:
        arguments.append("--no-worker")
    with ExitStack() as running:
        process, log = running.enter_context(tamis_process(*arguments, data=data, env=env))
        url = await_line(log, r"Tamis serves (\S+),", process)
        if "--no-worker" not in options:
            running.enter_context(working(data, "beside-the-server", env=env))
        yield Server(url, running.enter_context(tamis.Client(url)), process, data, log)


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
) -> Iterator[tuple[forked.Forked, Path]]:
    """Any `tamis` command as a process of its own, ended by SIGTERM if it is still there.

    first: a program that runs before the command in its process, to set what only tests set.
    """
    data.mkdir(parents=True, exist_ok=True)
    log = data / f"{arguments[0]}-{time.monotonic_ns()}.log"
    with log.open("wb") as file:
        process = forked.fork(arguments, file, file, {**os.environ, **(env or {})}, first=first)
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


def await_line(log: Path, pattern: str, process: "forked.Forked | subprocess.Popen[bytes]") -> str:
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
