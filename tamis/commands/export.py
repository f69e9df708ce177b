"""`tamis export`: the kept samples of a manifest in the form of another tool."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tamis.commands.groups import WHAT
from tamis.commands.options import Quiet, Result, Server
from tamis.commands.ready import check_out
from tamis.commands.terminal import steps
from tamis.errors import InputError


def export(
    manifest: Annotated[str, Parameter(help="Folder of the manifest, or its id on a server.", group=WHAT)],
    /,
    *,
    form: Annotated[
        Literal["hf", "webdataset", "fiftyone", "lightly", "csv", "jsonl"],
        Parameter(
            name="--format",
            help="hf: images beside metadata.parquet. webdataset: tar shards. fiftyone: its image classification "
            "data set. lightly: a folder a label, for LightlyStudio and ImageFolder. csv, jsonl: a list, without the "
            "images.",
            group=WHAT,
        ),
    ],
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder to write.", metavar="DIR", group=WHAT)],
    images: Annotated[
        str | None, Parameter(help="What the manifest was made of, if it moved.", metavar="SOURCE", group=WHAT)
    ] = None,
    link: Annotated[
        bool, Parameter(help="Links to images that are files here, in place of copies.", negative="", group=WHAT)
    ] = False,
    server: Server = Server(),
    quiet: Quiet = False,
) -> Result:
    check_out(out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty.", "Choose another folder with -o.")
    here = Path(manifest).is_dir()
    if not here and not manifest.startswith("mf_"):
        raise InputError(f"There is no folder {manifest}.", "Give that of a manifest, or a manifest's id on a server.")
    whose = manifest if here else f"{manifest} of {server.server}"
    with steps(f"Writing the kept samples of {whose} to {out}, as {form}.", quiet=quiet):
        if here:
            from tamis.exports import exported, write_export
            from tamis.manifest import read_manifest

            write_export(exported(read_manifest(manifest).samples, form, images=images, link=link), out)
        else:
            with server.client() as client:
                client.export(manifest, form, out)
    files = sum(path.is_file() for path in out.rglob("*"))
    print(f"{out}: {files} files")
    return {"out": str(out), "files": files}
