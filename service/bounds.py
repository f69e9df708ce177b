"""What the bound of a curation is made of, from the estimates in its summary."""

from math import nan
from typing import Any

from tamis.theory import DELTA, estimated


def bound_parts(graph: dict[str, Any]) -> dict[str, Any]:
    """delta, k, the eigenvalue number k + 1 of each graph, and the remedies; null where the estimates are no graph."""
    k = graph["r"] + 1
    values = (graph[name]["value"] for name in ("alpha", "beta", "gamma"))
    found = estimated(graph["n"], graph["r"], graph["n_d"], *(nan if value is None else value for value in values))
    if found is None or k >= found.n * k:
        return {"delta": DELTA, "k": k, "eigenvalues": None, "remedies": None}
    return {
        "delta": DELTA,
        "k": k,
        "eigenvalues": {
            "with": found.eigenvalue(k + 1),
            "without": found.without().eigenvalue(k + 1),
            "treated": found.eigenvalue(k + 1, treated=True),
        },
        "remedies": {"margin": found.margin(), "temperature": found.temperature()},
    }
