"""`tamis serve`: the HTTP server, and beside it one worker process that is started again when it dies."""

import asyncio
import fcntl
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TextIO

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.auth import is_loopback
from tamis.errors import SettingsError
from tamis.logs import log_to_stderr
from tamis.settings import Settings, load_settings

log = logging.getLogger("tamis.service")

RESTART_SECONDS = (1, 2, 5, 10, 30)
HEALTHY_SECONDS = 60
LOCK_SECONDS = 0.5


def serve(
    settings: Settings, *, host: str, port: int, with_worker: bool = True, keys: bool = False, reload: bool = False
) -> None:
    """Serves until SIGTERM or SIGINT. keys: whether API keys are asked for on a loopback address too."""
    if with_worker:
        settings.require_device()
    log_to_stderr(settings.log_format)
    settings.data.mkdir(parents=True, exist_ok=True)
    if reload:
        if keys or not is_loopback(host):
            raise SettingsError("--reload asks for no API key.", "Use it with a loopback --host only.")
        os.environ["TAMIS_DATA"] = str(settings.data)
        uvicorn.run("service.main:development_app", factory=True, host=host, port=port, reload=True)
        return
    _serve(create_app(settings, require_key=keys or not is_loopback(host)), settings, host, port, with_worker)


def _serve(app: FastAPI, settings: Settings, host: str, port: int, with_worker: bool) -> None:
    listener = _listen(host, port)
    address = f"http://{'[' + host + ']' if ':' in host else host}:{listener.getsockname()[1]}"
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    server = _Server(config, app.state)
    supervisor = Supervisor(settings, address) if with_worker else None
    if supervisor is not None:
        supervisor.start()
    log.info("Tamis serves %s, data in %s", address, settings.data.resolve())
    # What is loaded stays: looked through for garbage, it would hold every answer up for a third of a second.
    gc.freeze()
    try:
        server.run(sockets=[listener])
    finally:
        if supervisor is not None:
            supervisor.stop()


def development_app() -> object:
    """The app as uvicorn's reloader makes it anew in each of its processes."""
    return create_app(load_settings(), require_key=False)


class _Server(uvicorn.Server):
    """Ends the event streams first, which would otherwise hold the shutdown up."""

    def __init__(self, config: uvicorn.Config, state: object) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stopping: asyncio.Event = self._state.stopping  # type: ignore[attr-defined]  # starlette's State
        stopping.set()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small parts at once; without, an answer waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # From here on connections wait until they are answered, so the address may be told.
        listener.listen()
    except OSError as error:
        raise SettingsError(f"Cannot listen on {host}:{port} ({error.strerror}).", "Choose another --port.") from error
    return listener


class Supervisor(threading.Thread):
    """Keeps one worker process alive. It has a fixed id, so a restarted one resumes what the dead one held.

    Two of one id would take each other's jobs over, for ever: of the servers of a folder only one has a worker, which
    does the jobs of all, and another begins one as soon as that server has ended.
    """

    def __init__(self, settings: Settings, address: str) -> None:
        super().__init__(name="supervisor", daemon=True)
        self._data = settings.data.resolve()
        self._name = f"process {os.getpid()} on {socket.gethostname()}, at {address}"
        worker_id = settings.worker_id or f"{socket.gethostname()}-serve"
        self._command = [
            sys.executable,
            *("-m", "tamis.commands.cli", "worker", "--id", worker_id, "--data", str(settings.data)),
            *("--parent", str(os.getpid())),
        ]
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        with (self._data / "serve.lock").open("a+") as lock:
            self._take(lock)
            self._keep_alive()

    def _take(self, lock: TextIO) -> None:
        """Waits until no other server of the folder has it, or this one is to end."""
        told = False
        while not self._stopped.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    lock.seek(0)
                    log.warning(
                        "Another `tamis serve` works in %s: %s. Its worker does the jobs of this server too, "
                        "which starts one once that has ended",
                        *(self._data, lock.read()),
                    )
                told = True
                self._stopped.wait(LOCK_SECONDS)
            else:
                lock.truncate(0)
                lock.write(self._name)
                lock.flush()
                return

    def _keep_alive(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            started = time.monotonic()
            self._process = subprocess.Popen(self._command)
            status = self._process.wait()
            if self._stopped.is_set():
                return
            failures = 0 if time.monotonic() - started > HEALTHY_SECONDS else failures + 1
            pause = RESTART_SECONDS[min(failures, len(RESTART_SECONDS)) - 1] if failures else 0
            log.error("the worker ended with status %d; starting it again in %d s", status, pause)
            self._stopped.wait(pause)

    def stop(self) -> None:
        self._stopped.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.join(timeout=5)
