"""What a server is asked for and waited for: `tamis upload`, `manifest`, `curations create` and `trainings create`."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tamis.commands.groups import WHAT
from tamis.commands.options import (
    SOURCES,
    Difficulty,
    Encoding,
    Force,
    Out,
    Priority,
    Quiet,
    Result,
    Seed,
    Server,
    ServerDevice,
    Training,
    Treatment,
    flag,
)
from tamis.commands.ready import check_manifest_out, check_source
from tamis.commands.terminal import Step, following, steps
from tamis.encoders.names import parse_encoder
from tamis.errors import InputError
from trainer.recipes import OWN

STAYS = "The server goes on with it: `tamis jobs` shows how far it is."
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
    follow_links: Annotated[bool, flag("Send also what links of the folder name outside of it.", WHAT)] = False,
    curate: Annotated[bool, flag("Curate it too, as the settings below say, and wait for the result.", WHAT)] = False,
    out: Folder = None,
    force: Force = False,
    encoding: Encoding = Encoding(),
    difficulty: Difficulty = Difficulty(),
    treatment: Treatment = Treatment(),
    seed: Seed = 0,
    device: ServerDevice = "auto",
    priority: Priority = "normal",
    server: Server = Server(),
    quiet: Quiet = False,
) -> Result:
    asked = {**_changed(encoding), **_changed(difficulty), **_given(seed=seed, device=device)}
    if not curate and (asked or out):
        raise InputError(f"--{next(iter(asked), 'out').replace('_', '-')} is of a curation.", "Add --curate.")
    if out is None and (treated := _changed(treatment)):
        raise InputError(f"--{next(iter(treated))} is of a manifest.", "Add --curate, and -o DIR to put it there.")
    encoding.judge(server=True)
    difficulty.judge()
    treatment.judge()
    check_source(source)
    if out is not None:
        check_manifest_out(out, force, source)
    with server.client() as client:
        kept = "What has arrived there is kept: typed again, it goes on from there."
        with steps(f"Sending {source} to {server.server}.", quiet=quiet, kept=kept) as step:
            if "://" in source:
                dataset = client.register(source, name, priority)
            else:
                sending = step(f"send {source}", in_bytes=True)
                dataset = client.upload(source, name, sending, follow_links, priority)
        work = "stores and curates" if curate else "stores"
        with steps(f"{server.server} {work} {dataset['id']}.", quiet=quiet, kept=STAYS) as step:
            found: dict[str, Any] = client.wait(f"/datasets/{dataset['id']}", following(step, "ingest"))
            told = [f"{found['id']}  {found['samples']} images, {found['quarantined']} in quarantine"]
            if curate:
                found = _curated(client, found["id"], {**asked, "priority": priority}, step)
                told.append(_of_curation(found))
            if out is not None:
                found["manifest"] = _fetched(client, found["id"], out, treatment, step)
                told.append(_of_manifest(found["manifest"]))
    print("\n".join(told))
    return found


def manifest(
    id: Annotated[str, Parameter(help="Of a curation, to make one of it; or of a manifest that is made.", group=WHAT)],
    /,
    *,
    out: Out,
    force: Force = False,
    treatment: Treatment = Treatment(),
    server: Server = Server(),
    quiet: Quiet = False,
) -> Result:
    treatment.judge()
    check_manifest_out(out, force)
    plan = f"Fetching the manifest of {id} from {server.server} into {out}."
    with steps(plan, quiet=quiet, kept=STAYS) as step, server.client() as client:
        found = _fetched(client, id, out, treatment, step)
    print(_of_manifest(found))
    return found


def create_curation(
    dataset: Annotated[str, Parameter(help="Id of the data set.", group=WHAT)],
    /,
    *,
    encoding: Encoding = Encoding(),
    difficulty: Difficulty = Difficulty(),
    seed: Seed = 0,
    device: ServerDevice = "auto",
    priority: Priority = "normal",
    server: Server = Server(),
    quiet: Quiet = False,
) -> Result:
    encoding.judge(server=True)
    difficulty.judge()
    asked = {**_changed(encoding), **_changed(difficulty), "seed": seed, "device": device, "priority": priority}
    plan = f"{server.server} curates {dataset}."
    with steps(plan, quiet=quiet, kept=STAYS) as step, server.client() as client:
        curation = _curated(client, dataset, asked, step)
    print(_of_curation(curation))
    return curation


def create_training(
    manifest: Annotated[str, Parameter(help="Id of the manifest.", group=WHAT)],
    /,
    *,
    training: Training = Training(),
    seed: Seed = 0,
    device: ServerDevice = "auto",
    priority: Priority = "normal",
    server: Server = Server(),
    quiet: Quiet = False,
) -> Result:
    training.judge()
    if training.augmentations or training.texts or training.recipe not in (None, *OWN):
        raise InputError(
            "A server is sent no file to train by.",
            f"Use the recipes {', '.join(OWN)}, or train here: `tamis manifest`, then `tamis train`.",
        )
    plan = f"{server.server} trains on {manifest}."
    with steps(plan, quiet=quiet, kept=STAYS) as step, server.client() as client:
        asked = client.train(manifest, **_changed(training), seed=seed, device=device, priority=priority)
        ended: dict[str, Any] = client.wait(f"/trainings/{asked['id']}", following(step, "train"))
    probe = ended["result"]["probe"]
    print(f"{ended['id']}  " + (f"linear probe {probe['accuracy']:.1%}" if probe else "no linear probe without labels"))
    return ended


def _changed(options: Encoding | Difficulty | Treatment | Training) -> dict[str, Any]:
    """The values that are not the default, which the server knows itself."""
    values = {field.name: (getattr(options, field.name), field.default) for field in fields(options)}
    return {name: value for name, (value, default) in values.items() if default is MISSING or value != default}


def _given(seed: int, device: str) -> dict[str, Any]:
    return ({"seed": seed} if seed else {}) | ({"device": device} if device != "auto" else {})


def _curated(client: Any, dataset: str, asked: dict[str, Any], step: Step) -> dict[str, Any]:
    """The curation of a data set, when it is done; an encoder or embeddings in a file of this machine are sent before.

    asked: what differs from the defaults.
    """
    named = parse_encoder(asked["encoder"]) if ":" in asked.get("encoder", "") else None
    if named is not None and named.kind == "embeddings":
        client.send_embeddings(dataset, named.file)
        asked = {**asked, "encoder": named.kind}
    elif named is not None and Path(named.file).is_file():
        sent = client.send_encoder(named.file, named.label if named.name else None)
        asked = {**asked, "encoder": sent["encoder"]}
    curation = client.curate(dataset, **asked)
    ended: dict[str, Any] = client.wait(f"/curations/{curation['id']}", following(step, "curate"))
    return ended


def _fetched(client: Any, id: str, out: Path, treatment: Treatment, step: Step) -> dict[str, Any]:
    """Where a manifest was downloaded to, and its counts; of a curation it is made before."""
    from tamis.manifest import read_manifest

    made = {"id": id}
    if not id.startswith("mf_"):
        made = client.make_manifest(id, treatment.strategy, treatment.fraction, treatment.duplicates)
        client.wait(f"/manifests/{made['id']}", following(step, "manifest"))
    folder = client.download(made["id"], out)
    return {"path": str(folder), "counts": read_manifest(folder).description["counts"]}


def _of_curation(curation: dict[str, Any]) -> str:
    return f"{curation['id']}  {curation['result']['pairs']} difficult pairs listed"


def _of_manifest(found: dict[str, Any]) -> str:
    return f"{found['path']}: {found['counts']['kept']} of {found['counts']['samples']} samples kept"
