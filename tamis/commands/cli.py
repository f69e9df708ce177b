"""The command `tamis`: parses arguments, and imports only what the chosen command needs."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tamis.encoders.names import MAX_VIEWS, encoder_forms
from tamis.errors import InputError, TamisError
from tamis.version import __version__

Result = dict[str, Any] | None
DONE, FAILED, USAGE = 0, 1, 2
SERVER = "http://127.0.0.1:8080"
MAX_SEED = 2**31 - 1
SOURCE = "folder, zip, tar, WebDataset shards, Parquet, CIFAR, STL-10 or IDX file"
SCORES = ["blend", "band"]
DUPLICATES = ["keep", "exact", "near"]
BENCHMARKS = ["scan", "recut", "memory", "classes", "detect", "ingest", "embed", "first-contact"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 failed, 2 usage."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], Result] | None = getattr(options, "command", None)
    if command is None:
        parser.print_help()
        return USAGE
    try:
        result = command(options)
    except TamisError as error:
        return _failed(options, error.type, str(error), USAGE if isinstance(error, InputError) else FAILED)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _failed(
            options, "file-error", f"{place}{error.strerror or error}. Check the path, its rights and the disk.", FAILED
        )
    except KeyboardInterrupt:
        return _failed(options, "interrupted", "Interrupted.", FAILED)
    if options.json and result is not None:
        print(json.dumps(result, default=str))
    return DONE


def _failed(options: argparse.Namespace, kind: str, message: str, status: int) -> int:
    print(f"tamis: {message}", file=sys.stderr)
    if options.json:
        print(json.dumps({"error": {"type": kind, "message": message}}))
    return status


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tamis", description="Finds the difficult examples of an image data set.")
    parser.add_argument("--version", action="version", version=f"tamis {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], Result], help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
        sub.set_defaults(command=command)
        return sub

    demo = add("demo", _demo, "Runs the whole job on real images: upload, curate, manifest, train.")
    demo.add_argument("--dataset", default="digits", help="digits, fashion-mnist or a folder or archive of images")
    demo.add_argument("--out", type=Path, default=Path("demo-out"), help="where results go (default: %(default)s)")
    demo.add_argument("--epochs", type=int, help="length of each training")

    serve = add("serve", _serve, "Serves API and dashboard, with one worker beside it.")
    serve.add_argument(
        "--host", default="127.0.0.1", help="other than loopback needs an API key (default: %(default)s)"
    )
    serve.add_argument("--port", type=_whole(0, 65535), default=8080, help="0 takes a free one (default: %(default)s)")
    serve.add_argument("--data", type=Path, help="folder of database and objects (default: TAMIS_DATA or ./tamis-data)")
    serve.add_argument("--no-worker", action="store_true", help="leave the jobs to `tamis worker`")
    serve.add_argument("--reload", action="store_true", help="restart when the code changes (for development)")

    worker = add("worker", _worker, "Takes jobs from the queues, on this machine or another.")
    worker.add_argument("--queues", default="cpu,gpu,train", help="comma-separated (default: %(default)s)")
    worker.add_argument(
        "--data", type=Path, help="folder of database and objects (default: TAMIS_DATA or ./tamis-data)"
    )
    worker.add_argument("--id", help="a name that stays over restarts, so that a restart resumes at once")
    worker.add_argument("--parent", type=int, help=argparse.SUPPRESS)

    curate = add("curate", _curate, "Curates a data set without a server and writes a manifest.")
    curate.add_argument("source", help=f"{SOURCE}, or s3://BUCKET/PREFIX")
    curate.add_argument("-o", "--out", type=Path, required=True, help="folder of the manifest")
    curate.add_argument("--encoder", default="simclr", help=f"{', '.join(encoder_forms())} (default: %(default)s)")
    curate.add_argument("--views", type=_whole(1, MAX_VIEWS), default=1, help="averaged views of each image")
    curate.add_argument("--classes", type=_auto(int), default="auto", help="number of classes r+1, or auto")
    curate.add_argument("--pos-high", type=_auto(float), default="auto", help="share of same-class pairs, or auto")
    curate.add_argument("--pos-low", type=float, default=0.95, help="default: %(default)s")
    curate.add_argument("--score", choices=SCORES, default=SCORES[0], help="of a sample's difficulty")
    curate.add_argument("--strategy", default="remove", choices=["remove", "margin", "temperature", "combined"])
    curate.add_argument("--fraction", type=_auto(float), default="auto", help="share to remove, or auto")
    curate.add_argument("--duplicates", default="keep", choices=DUPLICATES, help="which to drop (default: %(default)s)")
    curate.add_argument("--epochs", type=int, help="training length of the simclr encoder")
    curate.add_argument("--seed", type=_whole(0, MAX_SEED), default=0)

    for name, command, text in (
        (
            "upload",
            _upload,
            "Sends a folder or archive to a server, or goes on where that was cut off.",
        ),
        ("datasets", _datasets, "Lists a server's data sets."),
        ("curations", _curations, "Lists a server's curations."),
        ("manifest", _manifest, "Makes a manifest of a curation and downloads it."),
    ):
        sub = add(name, command, text)
        sub.add_argument("--server", default=SERVER, help="default: %(default)s")
        sub.add_argument("--api-key", help="default: TAMIS_API_KEY")
        if name == "upload":
            sub.add_argument("source", help=f"{SOURCE}, or what the server reads: s3://... or file:///...")
            sub.add_argument("--name", required=True, help="name of the data set")
            sub.add_argument("--curate", action="store_true", help="curate it too, and wait for the result")
        if name == "manifest":
            sub.add_argument("id", help="id of the curation")
            sub.add_argument("-o", "--out", type=Path, required=True, help="folder of the manifest")
            sub.add_argument("--strategy", default="remove", choices=["remove", "margin", "temperature", "combined"])
            sub.add_argument("--fraction", type=_auto(float), default="auto", help="share to remove, or auto")
            sub.add_argument(
                "--duplicates", default="keep", choices=DUPLICATES, help="which to drop (default: %(default)s)"
            )

    train = add("train", _train, "Trains SimCLR on a manifest and reports a linear probe where labels exist.")
    train.add_argument("manifest", type=Path, help="folder of the manifest")
    train.add_argument("-o", "--out", type=Path, required=True, help="folder of checkpoints and results")
    train.add_argument("--images", help="what the manifest was made of, if it moved")
    train.add_argument("--loss", default="infonce", choices=["infonce", "spectral"])
    train.add_argument("--epochs", type=int)
    train.add_argument("--batch-size", type=int)
    train.add_argument("--baseline", action="store_true", help="ignore the manifest's flags: the control arm")
    train.add_argument("--seed", type=_whole(0, MAX_SEED), default=0)

    probe = add("probe", _probe, "Reports a linear probe of a checkpoint on labelled images.")
    probe.add_argument("checkpoint", type=Path)
    probe.add_argument("source", help="labelled images: as for `tamis curate`")

    bench = add("bench", _bench, "Measures a hot path against its peers and the machine's limit.")
    bench.add_argument("name", choices=BENCHMARKS)
    bench.add_argument("--count", type=int, help="samples (default: the documented figure's)")
    bench.add_argument(
        "--with",
        dest="given",
        type=_argument,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another argument of the benchmark's run(), in JSON: sizes=[24,32]",
    )

    keys = add("keys", _keys, "Creates, lists and revokes API keys of the server whose data are here.")
    keys.add_argument("action", choices=["create", "list", "revoke"])
    keys.add_argument("name", nargs="?", help="name of a new key, or id of the one to revoke")
    keys.add_argument("--data", type=Path, help="folder of database and objects (default: TAMIS_DATA or ./tamis-data)")
    return parser


def _auto(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def number_or_auto(text: str) -> Any:
        return text if text == "auto" else kind(text)

    number_or_auto.__name__ = f"{getattr(kind, '__name__', 'value')} or auto"
    return number_or_auto


def _whole(low: int, high: int) -> Callable[[str], int]:
    def number_from_to(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not from {low} to {high}")
        return value

    number_from_to.__name__ = f"number from {low} to {high}"
    return number_from_to


def _argument(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _demo(options: argparse.Namespace) -> Result:
    from tamis.commands.demo import describe, run_demo

    found = run_demo(options.dataset, options.out, epochs=options.epochs)
    print(describe(found))
    return found


def _serve(options: argparse.Namespace) -> Result:
    from service.main import serve

    serve(
        _settings(options),
        host=options.host,
        port=options.port,
        with_worker=not options.no_worker,
        reload=options.reload,
    )
    return None


def _worker(options: argparse.Namespace) -> Result:
    # Several jobs share the cores, and OpenMP's threads, left to spin while they wait, would take them from each other.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    from worker.durable.main import run_worker

    named = {"worker_id": options.id} if options.id else {}
    run_worker(_settings(options, **named), options.queues.split(","), parent=options.parent)
    return None


def _settings(options: argparse.Namespace, **overrides: Any) -> Any:
    from tamis.settings import load_settings

    if options.data is not None:
        overrides["data"] = options.data
    return load_settings(**overrides)


def _curate(options: argparse.Namespace) -> Result:
    from tamis.commands.terminal import steps
    from tamis.settings import load_settings
    from worker.local import curate_source

    with steps() as step:
        found = curate_source(
            options.source,
            options.out,
            encoder=options.encoder,
            classes=options.classes,
            pos_high=options.pos_high,
            pos_low=options.pos_low,
            score=options.score,
            strategy=options.strategy,
            fraction=options.fraction,
            duplicates=options.duplicates,
            epochs=options.epochs,
            views=options.views,
            seed=options.seed,
            allow_torchscript=load_settings().allow_torchscript,
            step=step,
        )
    counts = found["counts"]
    print(f"{found['path']}: {counts['kept']} of {counts['samples']} samples kept, {counts['pairs']} difficult pairs")
    if counts["equal_files"] or counts["near_duplicates"]:
        print(f"duplicates: {counts['equal_files']} by file, {counts['near_duplicates']} by similarity")
    for row in found["quarantine"]:
        print(f"left out {row['name']}: {row['reason']}")
    return found


def _client(options: argparse.Namespace) -> Any:
    from tamis.client.client import Client
    from tamis.settings import load_settings

    return Client(options.server, options.api_key or load_settings().api_key)


def _upload(options: argparse.Namespace) -> Result:
    from tamis.commands.terminal import following, steps

    with _client(options) as client, steps() as step:
        if "://" in options.source:
            dataset = client.register(options.source, options.name)
        else:
            sending = step(f"upload {options.source}", in_bytes=True)
            dataset = client.upload(options.source, options.name, progress=sending)
        dataset = client.wait(f"/datasets/{dataset['id']}", following(step, "ingest"))
        print(f"{dataset['id']}  {dataset['samples']} images, {dataset['quarantined']} in quarantine")
        if not options.curate:
            return dict(dataset)
        curation = client.curate(dataset["id"])
        curation = client.wait(f"/curations/{curation['id']}", following(step, "curate"))
    print(f"{curation['id']}  {curation['result']['pairs']} difficult pairs listed")
    return dict(curation)


def _datasets(options: argparse.Namespace) -> Result:
    with _client(options) as client:
        rows = client.datasets()
    for row in rows:
        print(f"{row['id']}  {row['state']:<10} {row['samples']:>10}  {row['name']}")
    return {"datasets": rows}


def _curations(options: argparse.Namespace) -> Result:
    with _client(options) as client:
        rows = client.curations()
    for row in rows:
        print(f"{row['id']}  {row['state']:<10} {row['parameters']['encoder']:<12} {row['dataset_name']}")
    return {"curations": rows}


def _manifest(options: argparse.Namespace) -> Result:
    from tamis.manifest import read_manifest

    with _client(options) as client:
        folder = client.manifest(
            options.id,
            options.out,
            strategy=options.strategy,
            fraction=options.fraction,
            duplicates=options.duplicates,
        )
    counts = read_manifest(folder).description["counts"]
    print(f"{folder}: {counts['kept']} of {counts['samples']} samples kept")
    return {"path": str(folder), "counts": counts}


def _train(options: argparse.Namespace) -> Result:
    from tamis.commands.terminal import steps
    from trainer.run import train_manifest

    with steps() as step:
        result = train_manifest(
            options.manifest,
            options.out,
            images=options.images,
            loss=options.loss,
            epochs=options.epochs,
            batch_size=options.batch_size,
            baseline=options.baseline,
            seed=options.seed,
            progress=step("train"),
        )
    print(result.describe())
    return result.as_json()


def _probe(options: argparse.Namespace) -> Result:
    from tamis.commands.terminal import steps
    from tamis.settings import load_settings
    from trainer.run import probe_checkpoint

    allowed = load_settings().allow_torchscript
    with steps() as step:
        result = probe_checkpoint(options.checkpoint, options.source, progress=step("embed"), allow_torchscript=allowed)
    print(result.describe())
    return result.as_json()


def _bench(options: argparse.Namespace) -> Result:
    import importlib

    try:
        benchmark = importlib.import_module(f"benchmarks.{options.name.replace('-', '_')}")
    except ImportError as error:
        raise InputError("The benchmarks are not installed.", "Run this in a checkout of the repository.") from error
    found: dict[str, Any] = {}
    arguments = {**dict(options.given), **({"count": options.count} if options.count else {})}
    for name, figures in benchmark.run(**arguments):
        found[name] = figures
        print(f"{name}: {json.dumps(figures)}")
    return found


def _keys(options: argparse.Namespace) -> Result:
    from service.auth import create_key, list_keys, revoke_key
    from tamis.store.catalog import open_catalog

    catalog = open_catalog(_settings(options))
    if options.action == "list":
        rows = [
            {"id": row.id, "name": row.name, "prefix": row.prefix, "revoked": row.revoked_at is not None}
            for row in list_keys(catalog)
        ]
        for row in rows:
            print(f"{row['id']}  {row['prefix']}...  {'revoked ' if row['revoked'] else 'standing'}  {row['name']}")
        return {"keys": rows}
    if not options.name:
        raise InputError(f"`tamis keys {options.action}` needs a name or id.", "See `tamis keys --help`.")
    if options.action == "create":
        key_id, key = create_key(catalog, options.name)
        print(f"{key_id}  {key}\nStore it now: it is not shown again.")
        return {"id": key_id, "key": key}
    revoke_key(catalog, options.name)
    print(f"{options.name} is revoked.")
    return {"id": options.name, "revoked": True}


if __name__ == "__main__":
    sys.exit(main())
