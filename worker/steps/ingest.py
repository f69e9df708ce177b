"""From a source to a data set among the objects: shards of verified images, an index and a list of what was refused."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import QuotaError
from tamis.ingest.shards import ShardRef, ingest
from tamis.progress import Progress
from tamis.sources import Source
from worker.steps.place import Place

Sizes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Stored:
    """A data set among the objects.

    fingerprint: of the ids and hashes of its samples. samples, quarantined, bytes: how many, and of image files.
    index, quarantine: keys of their tables. shards: in the order of the samples.
    """

    fingerprint: str
    samples: int
    quarantined: int
    bytes: int
    index: str
    quarantine: str
    shards: tuple[ShardRef, ...]


def store_source(
    place: Place,
    source: Source,
    *,
    in_place: bool = False,
    progress: Progress | None = None,
    room: int | None = None,
) -> Stored:
    """Checks, hashes and stores every image; see `ingest`. in_place: files that stay where they are are not copied.

    Raises QuotaError when shards and thumbnails take more than `room` bytes.
    """
    taken = 0

    def put(key: str, data: bytes) -> bool:
        nonlocal taken
        taken += len(data)
        if room is not None and taken > room:
            raise QuotaError(
                f"The images take more than the {room} bytes that are left on this server.",
                "Delete data sets that are no longer needed, or raise TAMIS_QUOTA_BYTES.",
            )
        return place.objects.put_if_absent(key, data)

    with place.scratch() as folder:
        found = ingest(source, put, progress, in_place=in_place, folder=folder)
        return Stored(
            found.fingerprint,
            found.index.num_rows,
            found.quarantine.num_rows,
            found.bytes,
            place.put_table("index", found.index),
            place.put_table("quarantine", found.quarantine),
            found.shards,
        )


def read_index(place: Place, key: str, columns: list[str] | None = None) -> pa.Table:
    """An index or a quarantine list, or some of its columns."""
    with place.local(key) as file:
        return pq.read_table(file, columns=columns)


def image_sizes(place: Place, dataset: Stored) -> tuple[Sizes, Sizes]:
    """Width and height of every image."""
    index = read_index(place, dataset.index, ["width", "height"])
    return index["width"].to_numpy(), index["height"].to_numpy()
