"""Processes of `tamis` that start at once: each is forked from one that has loaded what they load, and ran nothing.

An interpreter takes seconds of the processor to load PyTorch and the job engine, and the tests start a hundred. What
happens in the start itself is for tests that start an interpreter of their own.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn

LOADED = (
    "tamis.commands.app",
    "tamis.scan.cpu",
    "service.app",
    "service.main",
    "worker.local",
    "worker.durable.main",
    "trainer.run",
    "trainer.training",
    # What the first training, scan, estimate of classes and weights of a library load.
    "torch._dynamo",
    "torchvision.models",
    "sklearn.cluster",
    "sklearn.linear_model",
    "faiss",
)


class Forked:
    """A process and how it ended: as much of `subprocess.Popen` as tests use."""

    def __init__(self, keeper: socket.socket) -> None:
        self._keeper = keeper
        self.pid = int(keeper.recv(100))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._keeper], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("tamis", timeout or 0.0)
            self.returncode = int(self._keeper.recv(100))
            self._keeper.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(
    arguments: Sequence[str],
    stdout: IO[bytes],
    stderr: IO[bytes],
    env: Mapping[str, str],
    cwd: Path | None = None,
    first: str = "",
) -> Forked:
    """`tamis` with these arguments; first: a program that runs before it in its process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked = {"arguments": list(arguments), "env": dict(env), "cwd": str(cwd or Path.cwd()), "first": first}
    with theirs:
        given = [theirs.fileno(), stdout.fileno(), stderr.fileno()]
        socket.send_fds(_original()[1], [json.dumps(asked).encode()], given)
    return Forked(ours)


def run(*arguments: str | Path, first: str = "") -> "subprocess.CompletedProcess[str]":
    """`tamis` to its end; first: as in `fork`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        status = fork([*map(str, arguments)], out, err, os.environ, first=first).wait()
        told = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
    return subprocess.CompletedProcess(arguments, status, *told)


@cache
def _original() -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """The process that is forked, started on first use, and what it is asked through."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno())]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]), ours


def end() -> None:
    """Ends the process that is forked, if there is one."""
    if _original.cache_info().currsize:
        process, asking = _original()
        asking.close()
        process.wait(20)
        _original.cache_clear()


def _serve(asking: socket.socket) -> dict[str, Any] | None:
    """In the original, forks for each request until nobody asks any more; in a process of `tamis`, what it is to do."""
    for name in LOADED:
        import_module(name)
    # What is shared with the processes is not to be copied for a look at what may be freed.
    gc.collect()
    gc.freeze()
    while True:
        message, passed, *_ = socket.recv_fds(asking, 2**20, 3)
        if not message:
            return None
        # Keepers that have ended.
        while _ended_child():
            pass
        if os.fork() == 0:
            asking.close()
            return _keep(json.loads(message), *passed)
        for each in passed:
            os.close(each)


def _ended_child() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


def _keep(asked: dict[str, Any], telling: int, stdout: int, stderr: int) -> dict[str, Any]:
    """In the parent of a process of `tamis`, tells its number and how it ends; in the process, what it is to do."""
    child = os.fork()
    if child == 0:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        for each in (telling, stdout, stderr):
            os.close(each)
        return asked
    try:
        os.write(telling, str(child).encode())
        os.write(telling, str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
    finally:
        os._exit(0)


def _leave() -> NoReturn:
    """Ends the process when all is done that is done at exit, but for taking the interpreter down, which takes long."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    # Of an error that nothing catches.
    status = 1
    # Before those that modules register, and so after them.
    atexit.register(_leave)
    # PyArrow has a thread, which is made anew after a fork.
    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
    todo = _serve(socket.socket(fileno=int(sys.argv[1])))
    if todo is not None:
        os.chdir(todo["cwd"])
        os.environ.clear()
        os.environ.update(todo["env"])
        tempfile.tempdir = None
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        # As at a terminal, also where the tests are run under nohup or in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        sys.argv = ["tamis", *todo["arguments"]]
        exec(todo["first"], {})
        from tamis.commands.cli import main

        status = main()
