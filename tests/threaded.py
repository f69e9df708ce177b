"""What a program comes to with other numbers of threads, in a process of its own, for threads outlive no fork."""

import pickle
import subprocess
import sys

PROGRAM = """
import pickle, sys
import faiss, numpy as np, torch
from threadpoolctl import threadpool_limits
exec(sys.argv[1])
results = []
for threads in map(int, sys.argv[2:]):
    with threadpool_limits(threads):
        torch.set_num_threads(threads)
        assert torch.get_num_threads() == faiss.omp_get_max_threads() == threads
        results.append(result())
pickle.dump(results, sys.stdout.buffer)
"""


def with_threads(program: str, *threads: int) -> list[bytes]:
    """What `result()` of the program returns with so many threads each; NumPy is there as `np`."""
    command = [sys.executable, "-c", PROGRAM, program, *map(str, threads)]
    done = subprocess.run(command, env={"OMP_NUM_THREADS": str(max(threads))}, capture_output=True, check=True)
    results: list[bytes] = pickle.loads(done.stdout)
    return results
