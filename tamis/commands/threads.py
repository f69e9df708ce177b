"""How the threads of a command wait for each other."""

import os


def wait_asleep() -> None:
    """Makes OpenMP's threads sleep while they wait; call it before PyTorch is imported, which reads this once.

    PyTorch, scikit-learn and FAISS bring GNU's OpenMP, whose threads otherwise spin for milliseconds at the end of each
    piece of work, of which a training step has hundreds. Where other work shares the cores, a thread spins through its
    share of them while the one it waits for has none. docs/throughput.md has figures.

    What the user has set stands.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
