"""A curation of any number of random samples and pairs, as a catalogue and a store have it after its job."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tamis.settings import Settings
from tamis.store.catalog import open_catalog
from tamis.store.jobs import open_jobs
from tamis.store.objects import open_objects
from tamis.store.schema import Curation, Dataset, now

BINS = 2048


def make_curation(data: Path, samples: int, pairs: int, clusters: int = 50, seed: int = 0) -> tuple[str, str]:
    """Writes it into the folder `data`; returns the ids of data set and curation. There are no images."""
    random = np.random.default_rng(seed)
    settings = Settings(data=data)
    catalog, objects = open_catalog(settings), open_objects(settings)
    # The queue's tables are made by whoever comes first.
    open_jobs(catalog.engine).close()
    cluster = random.integers(0, clusters, samples).astype(np.int32)
    difficulty = random.beta(2, 5, samples).astype(np.float32)
    keys = np.unique(np.sort(random.integers(0, samples, (int(1.02 * pairs), 2)), axis=1), axis=0)
    keys = keys[keys[:, 0] != keys[:, 1]]
    a, b = random.permutation(keys)[:pairs].T
    similarity = np.clip(random.normal(0.8, 0.06, len(a)), -1, 1).astype(np.float32)
    hardest = np.sort(random.random(len(a)).astype(np.float32))[::-1]
    counts = np.histogram(np.clip(random.normal(0.3, 0.2, 1_000_000), -1, 1), BINS, (-1, 1))[0]
    counts = counts * (samples * (samples - 1) // 2 // 1_000_000 + 1)
    edges = np.linspace(-1, 1, BINS + 1)
    thresholds = {"sim_low": edges[1400], "sim_high": edges[1850], "pos_low": 0.4, "pos_high": 0.02}
    thresholds["sim_score"] = edges[1700]
    state = {"thresholds": thresholds, "counts": counts.tolist()}
    centres = random.normal(size=(clusters, 16))
    features = (centres[cluster] + 0.4 * random.normal(size=(samples, 16))).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    written = data / "made"
    written.mkdir()
    np.save(written / "features.npy", features.astype(np.float16))
    (written / "curation.json").write_text(json.dumps(state))
    index = np.arange(samples)
    pq.write_table(
        pa.table({"index": index, "cluster": cluster, "difficulty": difficulty}), written / "samples.parquet"
    )
    listed = {"a": a, "b": b, "similarity": similarity, "difficulty": hardest}
    pq.write_table(pa.table(listed), written / "pairs.parquet")
    names = pa.array([f"{number % 100:02}/{number:08}.jpg" for number in range(samples)])
    table: dict[str, Any] = {
        "sample_id": names,
        "sha256": pa.array(["0" * 64]).take(pa.array(np.zeros(samples, np.int64))),
        "width": np.full(samples, 224, np.int32),
        "height": np.full(samples, 224, np.int32),
        "label": pa.array([str(number) for number in range(100)]).take(pa.array(index % 100)),
        "size": np.full(samples, 20_000, np.int64),
    }
    pq.write_table(pa.table(table), written / "index.parquet")
    name = f"{samples}-{len(a)}"
    for file in ("features.npy", "curation.json", "samples.parquet", "pairs.parquet"):
        objects.put(f"curations/{name}/{file}", written / file)
    objects.put(f"index/{name}.parquet", written / "index.parquet")
    graph = {each: {"value": None, "low": None, "high": None} for each in ("alpha", "beta", "gamma")}
    band = int(counts[1400:1850].sum())
    summary = {
        "classes": clusters,
        "thresholds": thresholds,
        "graph": {**graph, "n": samples // clusters, "r": clusters - 1, "n_d": 1, "warning": ""},
        "samples": samples,
        "pairs": len(a),
        "counted_pairs": band,
        "total_pairs": int(counts.sum()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "n_d": 1,
        "bound": {},
    }
    parameters = {"encoder": "embeddings", "score": "blend", "neighbours": 64}
    ended: dict[str, Any] = {"state": "succeeded", "finished_at": now(), "started_at": now()}
    dataset, curation = f"ds_{name}", f"cu_{name}"
    with catalog.session() as session:
        keys_of = {"index_key": f"index/{name}.parquet", "quarantine_key": f"index/{name}.parquet"}
        session.add(Dataset(id=dataset, name=f"made {name}", samples=samples, fingerprint=name, **keys_of, **ended))
        session.flush()
        session.add(
            Curation(
                id=curation,
                dataset_id=dataset,
                parameters=parameters,
                result_key=f"curations/{name}",
                summary=summary,
                **ended,
            )
        )
    catalog.close()
    shutil.rmtree(written)
    return dataset, curation
