"""Work on a GPU that Python tells it once, and that is then replayed: small networks are done sooner than told."""

from collections.abc import Callable
from contextlib import suppress

import torch

# Times that work is done as it is told before it is recorded, for libraries to get ready in.
WARM = 3


class Replayed:
    """A CUDA graph of the work, which is done from the fourth call on without Python (Nguyen et al. 2021).

    work: of tensors of the same shapes at every call; what it allocates, it is given the same memory for each time.
    Work that looks at a value cannot be replayed, and is told every time. generators: those that it draws from, beside
    torch's own; each replay draws anew.
    """

    def __init__(self, work: Callable[..., torch.Tensor], *generators: torch.Generator) -> None:
        self._work, self._generators = work, generators
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # untyped in torch
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        self._calls += 1
        if self._calls == WARM + 1:
            # What cannot be replayed fails here, before any of it is done.
            with suppress(RuntimeError):
                self._graph = self._recorded(inputs)
        if self._graph is None:
            return self._told(inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._result.clone()

    def _told(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Beside the usual stream, as it is recorded."""
        usual = torch.cuda.current_stream()
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            result = self._work(*inputs)
        usual.wait_stream(self._stream)
        return result

    def _recorded(self, inputs: tuple[torch.Tensor, ...]) -> torch.cuda.CUDAGraph:
        self._inputs = [given.clone() for given in inputs]
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        # What other threads do with the GPU meanwhile, such as asking for its memory, does no harm.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._result = self._work(*self._inputs)
        return graph
