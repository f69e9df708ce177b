"""`make rehearse`: the containers do the whole job as README.md and docs/deployment.md say, are killed in the middle of
it, taken down and restored. Prints what happened when, and what it took; ends with status 1 at the first thing amiss.

COMPOSE_FILE chooses other compose files, as for `docker compose` itself.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import tamis
from tamis.client.client import ENDED

ROOT = Path(__file__).parents[2]
PROJECT = "tamis-rehearsal"
ADDRESS = "http://127.0.0.1:8080"
PATIENCE = 900.0
# Long enough for each container to be killed meanwhile.
EPOCHS = 12
os.environ["COMPOSE_PROJECT_NAME"] = PROJECT
STARTED = time.monotonic()


def told(what: str) -> None:
    print(f"{time.monotonic() - STARTED:6.1f} s  {what}", flush=True)


def run(*words: str, **how: Any) -> bytes:
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, check=True, **how)
    return done.stdout


def compose(*words: str, **how: Any) -> bytes:
    return run("docker", "compose", "--progress", "quiet", *words, **how)


def up(*words: str) -> None:
    compose("up", "--detach", "--wait", *words)


def until(holds: Callable[[], Any], what: str) -> Any:
    """What `holds` gives once it is true. A server that is away for now is asked again."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(tamis.TamisError, httpx.HTTPError):
            if found := holds():
                return found
        time.sleep(0.3)
    raise SystemExit(f"{PATIENCE:.0f} s passed without {what}.")


def inspected(service: str) -> dict[str, Any]:
    container = compose("ps", "--all", "--quiet", service).decode().strip()
    found: dict[str, Any] = json.loads(run("docker", "inspect", container))[0]
    return found


def crash(service: str) -> None:
    """Kills all of a container at once, and waits until the engine has started it again and it is healthy."""
    before = inspected(service)
    os.kill(before["State"]["Pid"], signal.SIGKILL)

    def well() -> bool:
        now = inspected(service)
        return bool(now["RestartCount"] > before["RestartCount"] and now["State"]["Health"]["Status"] == "healthy")

    began = time.monotonic()
    until(well, f"{service} healthy again")
    told(f"killed {service}; healthy again after {time.monotonic() - began:.1f} s")


def ended(get: Callable[[], dict[str, Any]], what: str, crashing: Sequence[str] = ()) -> dict[str, Any]:
    """The job once it has succeeded; each of the containers is killed once the job has got on since the one before."""

    def got_on(since: Any) -> Any:
        job = get()
        if job["state"] in ENDED:
            raise SystemExit(f"{what} was over ({job['state']}) before all was killed: {job['error']}")
        at = job["progress"]["stage"], job["progress"]["done"]
        return at if job["state"] == "running" and at[1] and at != since else None

    reached = None
    for service in crashing:
        reached = until(partial(got_on, reached), f"{what} getting on")
        reached = until(partial(got_on, reached), f"{what} getting on")
        told(f"{what} at {reached[0]}, {reached[1]}")
        crash(service)
    job = until(lambda: (found := get())["state"] in ENDED and found, f"the end of {what}")
    if job["state"] != "succeeded":
        raise SystemExit(f"{what} {job['state']}: {job['error']}")
    told(f"{what} succeeded")
    return dict(job)


def everything(client: tamis.Client) -> dict[str, Any]:
    """All that the server has: its lists, and a manifest's bytes."""
    found = {name: getattr(client, name)() for name in ("datasets", "curations", "manifests", "trainings")}
    with tempfile.TemporaryDirectory() as folder:
        manifest = client.download(found["manifests"][0]["id"], folder)
        return found | {file.name: file.read_bytes() for file in manifest.iterdir()}


def same(client: tamis.Client, before: dict[str, Any], after_what: str) -> None:
    now = everything(client)
    if now != before:
        differ = [name for name in before if now.get(name) != before[name]]
        raise SystemExit(f"After {after_what} these are not as before: {', '.join(differ)}.")
    told(f"{after_what}: data sets, curation, manifest and training are as before")


def digits(folder: Path) -> Path:
    """scikit-learn's 1,797 handwritten digits as PNG files, one folder a label."""
    found = load_digits()
    for number, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        file = folder / str(label) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype(np.uint8)).save(file)
    return folder


@contextmanager
def memory_watched() -> Iterator[dict[str, float]]:
    """Yields the most memory that each container was seen to take, in MiB, files that the system holds left out."""
    most: dict[str, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(2.0):
            seen = run("docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").decode()
            for name, number, unit in re.findall(r"^(\S+) ([\d.]+)([MG])iB", seen, re.M):
                most[name] = max(most.get(name, 0.0), float(number) * {"M": 1, "G": 1024}[unit])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def rehearse(client: tamis.Client, images: Path) -> None:
    store = [name for name in compose("config", "--services").decode().split() if name == "objects"]
    dataset = client.upload(images, "Digits")
    ended(lambda: client.dataset(dataset["id"]), "ingest")
    asked = client.curate(dataset["id"], epochs=EPOCHS)
    curation = ended(lambda: client.curation(asked["id"]), "curation", ["worker-cpu", "database", *store, "service"])
    made = client.make_manifest(curation["id"])
    ended(lambda: client.manifest_view(made["id"]), "manifest")
    begun = client.train(made["id"], epochs=EPOCHS)
    ended(lambda: client.training(begun["id"]), "training", ["worker-cpu"])

    before = everything(client)
    compose("down")
    up()
    same(client, before, "down and up again")
    if store:
        return
    with tempfile.TemporaryFile() as catalogue, tempfile.TemporaryFile() as objects:
        catalogue.write(
            compose("exec", "-T", "database", "pg_dump", "--username", "tamis", "--format", "custom", "tamis")
        )
        objects.write(compose("exec", "-T", "service", "tar", "--create", "--directory", "/data", "objects"))
        told(f"backup of {catalogue.tell() / 1e6:.1f} and {objects.tell() / 1e6:.1f} MB; all volumes are removed")
        catalogue.seek(0)
        objects.seek(0)
        compose("down", "--volumes")
        up("database")
        restore = ("pg_restore", "--username", "tamis", "--dbname", "tamis")
        compose("exec", "-T", "database", *restore, stdin=catalogue)
        into = ("--entrypoint", "tar", "service", "--extract", "--directory", "/data")
        compose("run", "--rm", "-T", "--no-deps", *into, stdin=objects)
    up()
    same(client, before, "restored")


def main() -> None:
    for name in ("database_password", "s3_secret"):
        file = ROOT / "secrets" / name
        if not file.exists():
            file.parent.mkdir(mode=0o700, exist_ok=True)
            file.write_text(secrets.token_hex(24))
    compose("down", "--volumes")
    compose("build")
    size = int(run("docker", "image", "inspect", "--format", "{{.Size}}", "tamis:cpu"))
    told(f"built; tamis:cpu is {size / 1e9:.2f} GB")
    try:
        with memory_watched() as most, tempfile.TemporaryDirectory() as folder:
            up()
            told("up, and every container is healthy")
            key = compose("run", "--rm", "service", "keys", "create", "rehearsal").decode().split()[1]
            as_by_a_proxy = {"x-forwarded-proto": "https"}
            signed_in = httpx.post(f"{ADDRESS}/login", data={"key": key}, headers=as_by_a_proxy)
            if "secure" not in signed_in.headers.get("set-cookie", "").lower():
                raise SystemExit(f"A proxy with TLS is not believed: {signed_in.status_code}.")
            with tamis.Client(ADDRESS, key) as client:
                rehearse(client, digits(Path(folder)))
    finally:
        compose("down", "--volumes")
    for name, megabytes in sorted(most.items()):
        told(f"{name}: at most {megabytes:,.0f} MiB")


if __name__ == "__main__":
    main()
