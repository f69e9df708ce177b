"""`tamis upload` and `tamis manifest`: from data through a server's work to a manifest on this machine."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tamis.commands.options import (
    SOURCES,
    WHAT,
    Difficulty,
    Encoding,
    Out,
    Quiet,
    Result,
    Seed,
    Server,
    ServerDevice,
    Training,
    Treatment,
    flag,
)
from tamis.commands.ready import check_out, check_source
from tamis.commands.terminal import Step, following, steps
from tamis.encoders.names import parse_encoder
from tamis.errors import InputError

Folder = Annotated[
    Path | None,
    Parameter(
        name=["--out", "-o"], help="With --curate: folder to download a manifest into.", metavar="DIR", group=WHAT
    ),
]


def upload(
    source: Annotated[str, Parameter(help=f"{SOURCES}; or what the server reads: s3://... or file:///...", group=WHAT)],
    /,
    *,
    name: Annotated[str, Parameter(help="Name of the data set.", group=WHAT)],
    curate: Annotated[bool, flag("Curate it too, as the settings below say, and wait for the result.", WHAT)] = False,
    out: Folder = None,
    encoding: Encoding = Encoding(),
    difficulty: Difficulty = Difficulty(),
    treatment: Treatment = Treatment(),
    seed: Seed = 0,
    device: ServerDevice = "auto",
    server: Server = Server(),
    quiet: Quiet = False,
) -> Result:
    """Sends a folder or archive to a server, or goes on where that was cut off."""
    asked = {**changed(encoding), **changed(difficulty), **_given(seed=seed, device=device)}
    if not curate and (asked or out):
        raise InputError(f"--{next(iter(asked), 'out').replace('_', '-')} is of a curation.", "Add --curate.")
    if out is None and (treated := changed(treatment)):
        raise InputError(f"--{next(iter(treated))} is of a manifest.", "Add --curate, and -o DIR to put it there.")
    encoding.judge(server=True)
    difficulty.judge()
    treatment.judge()
    check_source(source)
    if out is not None:
        check_out(out)
    kept = "What has arrived there is kept: typed again, it goes on from there."
    with steps(f"Sending {source} to {server.server}.", quiet=quiet, kept=kept) as step, server.client() as client:
        if "://" in source:
            dataset = client.register(source, name)
        else:
            dataset = client.upload(source, name, progress=step(f"send {source}", in_bytes=True))
        dataset = client.wait(f"/datasets/{dataset['id']}", following(step, "ingest"))
        print(f"{dataset['id']}  {dataset['samples']} images, {dataset['quarantined']} in quarantine")
        if not curate:
            return dict(dataset)
        curation = curate_there(client, dataset["id"], asked, step)
        if out is not None:
            curation["manifest"] = fetch(client, curation["id"], out, treatment, step)
    return curation


def manifest(
    id: Annotated[str, Parameter(help="Of a curation, to make one of it; or of a manifest that is made.", group=WHAT)],
    /,
    *,
    out: Out,
    treatment: Treatment = Treatment(),
    server: Server = Server(),
    quiet: Quiet = False,
) -> Result:
    """Makes a manifest of a curation and downloads it."""
    treatment.judge()
    check_out(out)
    with steps(f"Fetching {id} from {server.server} into {out}.", quiet=quiet) as step, server.client() as client:
        return fetch(client, id, out, treatment, step)


def changed(options: Encoding | Difficulty | Treatment | Training) -> dict[str, Any]:
    """The values that are not the default, which the server knows itself."""
    values = {field.name: (getattr(options, field.name), field.default) for field in fields(options)}
    return {name: value for name, (value, default) in values.items() if default is MISSING or value != default}


def _given(seed: int, device: str) -> dict[str, Any]:
    return ({"seed": seed} if seed else {}) | ({"device": device} if device != "auto" else {})


def curate_there(client: Any, dataset: str, asked: dict[str, Any], step: Step) -> dict[str, Any]:
    """Has a data set curated, and waits for it; an encoder or embeddings in a file of this machine are sent before.

    asked: what differs from the defaults.
    """
    named = parse_encoder(asked["encoder"]) if ":" in asked.get("encoder", "") else None
    if named is not None and named.kind == "embeddings":
        client.send_embeddings(dataset, named.file)
        asked = {**asked, "encoder": named.kind}
    elif named is not None and Path(named.file).is_file():
        sent = client.send_encoder(named.file, named.label if named.name else None)
        asked = {**asked, "encoder": sent["encoder"]}
    curation: dict[str, Any] = client.curate(dataset, **asked)
    curation = client.wait(f"/curations/{curation['id']}", following(step, "curate"))
    print(f"{curation['id']}  {curation['result']['pairs']} difficult pairs listed")
    return curation


def fetch(client: Any, id: str, out: Path, treatment: Treatment, step: Step) -> dict[str, Any]:
    """Downloads a manifest; of a curation it is made before."""
    from tamis.manifest import read_manifest

    if id.startswith("mf_"):
        folder = client.download(id, out)
    else:
        made = client.make_manifest(id, treatment.strategy, treatment.fraction, treatment.duplicates)
        client.wait(f"/manifests/{made['id']}", following(step, "manifest"))
        folder = client.download(made["id"], out)
    counts = read_manifest(folder).description["counts"]
    print(f"{folder}: {counts['kept']} of {counts['samples']} samples kept")
    return {"path": str(folder), "counts": counts}
