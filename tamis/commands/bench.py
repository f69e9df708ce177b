"""`tamis bench`: the measurements behind every figure of the documentation."""

import importlib
import inspect
import json
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tamis.commands.groups import WHAT
from tamis.commands.options import Result, number
from tamis.errors import InputError


def bench(
    name: Annotated[
        Literal[
            "scan",
            "recut",
            "pairs-api",
            "memory",
            "scale",
            "classes",
            "detect",
            "labels",
            "ingest",
            "embed",
            "train",
            "loss",
            "shared",
            "first-contact",
            "load",
        ],
        Parameter(help="What to measure.", group=WHAT),
    ],
    /,
    *,
    count: Annotated[
        int | None,
        Parameter(help="Samples; by default the documented figure's.", metavar="N", validator=number(1), group=WHAT),
    ] = None,
    given: Annotated[
        tuple[str, ...],
        Parameter(
            "--with",
            help="Another argument of the benchmark's run(), in JSON, as sizes=[24,32]; may be repeated.",
            metavar="NAME=VALUE",
            negative="",
            show_default=False,
            group=WHAT,
        ),
    ] = (),
) -> Result:
    try:
        benchmark = importlib.import_module(f"benchmarks.{name.replace('-', '_')}")
    except ImportError as error:
        raise InputError("The benchmarks are not installed.", "Run this in a checkout of the repository.") from error
    arguments = dict(map(_argument, given)) | ({} if count is None else {"count": count})
    unknown = arguments.keys() - inspect.signature(benchmark.run).parameters
    if unknown:
        raise InputError(
            f"{name} takes no {', '.join(sorted(unknown))}.", f"See benchmarks/{name.replace('-', '_')}.py."
        )
    found: dict[str, Any] = {}
    for measured, figures in benchmark.run(**arguments):
        found[measured] = figures
        print(f"{measured}: {json.dumps(figures)}")
    return found


def _argument(text: str) -> tuple[str, Any]:
    """What is not JSON is taken as it stands: a path needs no quotes."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
