"""`tamis report`: what a manifest says, as one HTML file."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tamis.commands.groups import WHAT
from tamis.commands.options import Quiet, Result, Server
from tamis.commands.ready import check_out
from tamis.commands.terminal import steps
from tamis.errors import InputError

if TYPE_CHECKING:
    from tamis.client.client import Client


def report(
    manifest: Annotated[
        str, Parameter(help="Folder of the manifest, or the id of a curation or manifest on a server.", group=WHAT)
    ],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="File to write.", metavar="FILE.html", group=WHAT)],
    images: Annotated[
        str | None, Parameter(help="What the manifest was made of, if it moved.", metavar="SOURCE", group=WHAT)
    ] = None,
    server: Server = Server(),
    quiet: Quiet = False,
) -> Result:
    check_out(out.absolute().parent)
    if out.is_dir():
        raise InputError(f"{out} is a folder.", "Name a file with -o, such as report.html.")
    here = Path(manifest).is_dir()
    if not here and not manifest.startswith(("mf_", "cu_")):
        raise InputError(f"There is no folder {manifest}.", "Give that of a manifest, or an id on a server.")
    with steps(f"Reporting on {manifest} to {out}.", quiet=quiet):
        from tamis.manifest import read_manifest
        from tamis.report.page import report as made

        if here:
            text = made(read_manifest(manifest), Path(manifest).resolve().name, images=images)
        else:
            with server.client() as client, tempfile.TemporaryDirectory() as folder:
                curation = manifest
                if manifest.startswith("cu_"):
                    client.manifest(manifest, folder)
                else:
                    curation = client.manifest_view(manifest)["curation"]
                    client.download(manifest, folder)
                about = client.curation(curation)
                found = read_manifest(folder)
                place = {name: number for number, name in enumerate(found.samples["sample_id"].to_pylist())}
                text = made(
                    found,
                    about["dataset_name"],
                    images=images,
                    find=None if images else lambda names: _fetched(client, about["dataset"], place, names),
                )
        out.write_text(text, encoding="utf-8")
    print(f"{out}: {out.stat().st_size / 1e6:.2g} MB")
    return {"out": str(out), "bytes": out.stat().st_size}


def _fetched(
    client: "Client", dataset: str, place: dict[str, int], names: Sequence[str]
) -> Iterator[tuple[int, bytes]]:
    for row, name in enumerate(names):
        yield row, client.image(dataset, place[name])
