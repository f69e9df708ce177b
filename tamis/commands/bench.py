"""`tamis bench`: the measurements behind every figure of the documentation."""

import importlib
import json
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tamis.commands.options import WHAT, Result, number
from tamis.errors import InputError


def bench(
    name: Annotated[
        Literal["scan", "recut", "memory", "classes", "detect", "ingest", "embed", "shared", "first-contact"],
        Parameter(help="What to measure.", group=WHAT),
    ],
    /,
    *,
    count: Annotated[
        int | None,
        Parameter(help="Samples; by default the documented figure's.", metavar="N", validator=number(1), group=WHAT),
    ] = None,
) -> Result:
    """Measures a hot path against its peers and the machine's limit."""
    try:
        benchmark = importlib.import_module(f"benchmarks.{name.replace('-', '_')}")
    except ImportError as error:
        raise InputError("The benchmarks are not installed.", "Run this in a checkout of the repository.") from error
    found: dict[str, Any] = {}
    for measured, figures in benchmark.run(**({} if count is None else {"count": count})):
        found[measured] = figures
        print(f"{measured}: {json.dumps(figures)}")
    return found
