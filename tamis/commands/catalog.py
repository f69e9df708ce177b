"""What a server has: `tamis datasets`, `curations`, `manifests`, `encoders`, `trainings` and `jobs`.

Each alone lists them, the latest first; sub-commands show one or end it, and remote.py makes one.
"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from tamis.commands.groups import WHAT
from tamis.commands.options import Id, Result, Server, number
from tamis.commands.tables import print_facts, print_table
from tamis.printable import printable

datasets = App(name="datasets")
curations = App(name="curations")
encoders = App(name="encoders")
trainings = App(name="trainings")
curations.command(
    "tamis.commands.remote:create_curation",
    name="create",
    help="Curates a data set of the server, and waits for the result.",
)
trainings.command(
    "tamis.commands.remote:create_training",
    name="create",
    help="Trains on a manifest of the server, and waits for the result.",
)


@datasets.default
def list_datasets(*, server: Server = Server()) -> Result:
    with server.client() as client:
        rows = client.datasets()
    print_table(
        ["ID", "STATE", "IMAGES", "LEFT OUT", "NAME"],
        [(row["id"], row["state"], row["samples"], row["quarantined"], row["name"]) for row in rows],
    )
    return {"datasets": rows}


@datasets.command(name="show")
def show_dataset(id: Id, /, *, server: Server = Server()) -> Result:
    """Shows a data set, and the files that were left out of it."""
    with server.client() as client:
        dataset = client.dataset(id)
        left_out = list(client.quarantine(id)) if dataset["quarantined"] else []
    print_facts(dataset)
    for row in left_out:
        print(printable(f"left out {row['name']}: {row['reason']}"))
    return {**dataset, "quarantine": left_out}


@datasets.command(name="delete")
def delete_dataset(id: Id, /, *, server: Server = Server()) -> Result:
    """Deletes a data set that no curation was made of."""
    with server.client() as client:
        client.delete_dataset(id)
    print(f"{id} is deleted.")
    return {"id": id, "deleted": True}


@curations.default
def list_curations(*, server: Server = Server()) -> Result:
    with server.client() as client:
        rows = client.curations()
    print_table(
        ["ID", "STATE", "ENCODER", "DATA SET"],
        [(row["id"], row["state"], row["parameters"]["encoder"], row["dataset_name"]) for row in rows],
    )
    return {"curations": rows}


@curations.command(name="show")
def show_curation(id: Id, /, *, server: Server = Server()) -> Result:
    """Shows a curation: what was asked, how far it is, what it found."""
    with server.client() as client:
        curation: dict[str, Any] = client.curation(id)
    print_facts(curation)
    return curation


@curations.command(name="cancel")
def cancel_curation(id: Id, /, *, server: Server = Server()) -> Result:
    """Cancels a curation that waits or runs."""
    with server.client() as client:
        return _cancelled(client.cancel(f"/curations/{id}"))


@curations.command(name="pairs")
def list_pairs(
    id: Id,
    /,
    *,
    limit: Annotated[int, Parameter(help="How many.", metavar="N", validator=number(1), group=WHAT)] = 20,
    server: Server = Server(),
) -> Result:
    """Lists a curation's difficult pairs, the most similar first."""
    with server.client() as client:
        rows = [row for row, _ in zip(client.pairs(id), range(limit), strict=False)]
    print_table(
        ["SIMILARITY", "A", "B"],
        [(f"{row['similarity']:.4f}", row["a"]["sample_id"], row["b"]["sample_id"]) for row in rows],
    )
    return {"pairs": rows}


def manifests(*, server: Server = Server()) -> Result:
    with server.client() as client:
        rows = client.manifests()
    print_table(
        ["ID", "STATE", "STRATEGY", "KEPT", "CURATION"],
        [
            (
                row["id"],
                row["state"],
                row["parameters"]["strategy"],
                (row["result"] or {}).get("kept", ""),
                row["curation"],
            )
            for row in rows
        ],
    )
    return {"manifests": rows}


@encoders.default
def list_encoders(*, server: Server = Server()) -> Result:
    with server.client() as client:
        rows = client.encoders()
    print_table(
        ["ID", "NETWORK", "PIXELS", "FILE", "FOR --encoder"],
        [(row["id"], row["architecture"], row["image_size"], row["name"], row["encoder"]) for row in rows],
    )
    return {"encoders": rows}


@encoders.command(name="send")
def send_encoder(
    file: Annotated[Path, Parameter(help="A checkpoint: encoder.pt, .pth or .safetensors.", group=WHAT)],
    /,
    *,
    architecture: Annotated[
        str | None,
        Parameter(help="torchvision:NAME or timm:NAME, if the weights do not tell.", metavar="NAME", group=WHAT),
    ] = None,
    server: Server = Server(),
) -> Result:
    """Sends an encoder, for curations by it."""
    with server.client() as client:
        sent: dict[str, Any] = client.send_encoder(file, architecture)
    print(f"{sent['id']}  --encoder {sent['encoder']}")
    return sent


@trainings.default
def list_trainings(*, server: Server = Server()) -> Result:
    with server.client() as client:
        rows = client.trainings()
    print_table(
        ["ID", "STATE", "ARM", "PROBE", "OF"],
        [
            (
                row["id"],
                row["state"],
                _arm(row),
                _accuracy(row),
                row["manifest"] or row["curation"],
            )
            for row in rows
        ],
    )
    return {"trainings": rows}


def _arm(training: dict[str, Any]) -> str:
    if training["manifest"] is None:
        return "experiment"
    return "baseline" if training["parameters"].get("baseline") else "manifest"


@trainings.command(name="show")
def show_training(id: Id, /, *, server: Server = Server()) -> Result:
    """Shows a training: what was asked, how far it is, what it came to."""
    with server.client() as client:
        training: dict[str, Any] = client.training(id)
    print_facts(training)
    return training


@trainings.command(name="cancel")
def cancel_training(id: Id, /, *, server: Server = Server()) -> Result:
    """Cancels a training that waits or runs."""
    with server.client() as client:
        return _cancelled(client.cancel(f"/trainings/{id}"))


def jobs(*, server: Server = Server()) -> Result:
    with server.client() as client:
        rows = client.jobs()
    print_table(
        ["ID", "KIND", "STATE", "STAGE", "DATA SET"],
        [(row["id"], row["kind"], row["state"], _stage(row), row["dataset_name"]) for row in rows],
    )
    return {"jobs": rows}


def _stage(job: dict[str, Any]) -> str:
    if job["state"] != "running":
        return str(job["error"] or "")
    now = job["progress"]
    return f"{now['stage']} {now['done']:,} of {now['total']:,}" if now["total"] else str(now["stage"])


def _accuracy(training: dict[str, Any]) -> str:
    found = (training["result"] or {}).get("probe")
    return f"{found['accuracy']:.1%}" if found else ""


def _cancelled(job: dict[str, Any]) -> Result:
    print(f"{job['id']} is {job['state']}.")
    return job
