"""The REST API end to end, against a real server with a real worker, on SQLite with a folder and PostgreSQL with S3."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import Server, serving
from PIL import Image
from samples import digit_embeddings, digit_files, write_tar

import tamis
from tamis.client.tus import PART
from tamis.encoders.encoder import fingerprint
from tamis.encoders.files import load_encoder

COUNT = 300


@pytest.fixture(scope="module", params=["sqlite and folder", "postgresql and s3"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "sqlite and folder":
        yield request.getfixturevalue("server")
        return
    with serving(tmp_path_factory.mktemp("stack") / "data", env=request.getfixturevalue("postgres_and_s3")) as running:
        yield running


@pytest.fixture(scope="module")
def dataset(stack: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    archive = write_tar(tmp_path_factory.mktemp("digits") / "digits.tar", digit_files(COUNT))
    uploaded = stack.client.upload(archive, "digits")
    return str(stack.client.wait(f"/datasets/{uploaded['id']}", timeout=60)["id"])


@pytest.fixture(scope="module")
def curation(stack: Server, dataset: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("embeddings") / "embeddings.npy"
    np.save(file, digit_embeddings(COUNT))
    stack.client.send_embeddings(dataset, file)
    asked = stack.client.curate(dataset, encoder="embeddings", classes=10, neighbours=8)
    return str(stack.client.wait(f"/curations/{asked['id']}", timeout=60)["id"])


def http(server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"{server.url}/api/v1", timeout=30)


def test_a_data_set_is_stored_with_its_samples_and_thumbnails(stack: Server, dataset: str) -> None:
    row = stack.client.dataset(dataset)
    assert (row["state"], row["samples"], row["quarantined"]) == ("succeeded", COUNT, 0)
    with http(stack) as client:
        page = client.get(f"/datasets/{dataset}/samples", params={"limit": 7}).json()
        assert [item["sample_id"] for item in page["items"]] == [name for name, _ in digit_files(COUNT)[:7]]
        following = client.get(f"/datasets/{dataset}/samples", params={"limit": 7, "cursor": page["next"]}).json()
        assert following["items"][0]["sample_id"] == digit_files(COUNT)[7][0]
        assert client.get(f"/datasets/{dataset}/samples/3").json()["label"] == digit_files(COUNT)[3][0][0]
        assert client.get(f"/datasets/{dataset}/samples/{COUNT}").status_code == 404
        assert client.get(f"/datasets/{dataset}/quarantine").json()["items"] == []


def test_a_large_archive_goes_in_parts_and_is_read_whole(stack: Server, tmp_path: Path) -> None:
    noise = hashlib.shake_256(b"noise").digest(2 * PART)
    archive = write_tar(tmp_path / "large.tar", (*digit_files(20), ("noise.bin", noise)))
    seen: list[int] = []
    uploaded = stack.client.upload(archive, "large", lambda done, total: seen.append(done))
    stored = stack.client.wait(f"/datasets/{uploaded['id']}", timeout=60)
    assert (stored["samples"], stored["quarantined"]) == (20, 1)
    assert seen[0] == 0
    assert PART in seen
    assert seen[-1] == archive.stat().st_size


def test_thumbnails_come_in_two_sizes_and_are_fetched_once(stack: Server, tmp_path: Path) -> None:
    photo = io.BytesIO()
    Image.radial_gradient("L").resize((400, 200)).save(photo, "JPEG")
    files = (digit_files(1)[0], ("photo.jpg", photo.getvalue()))
    uploaded = stack.client.upload(write_tar(tmp_path / "mixed.tar", files), "mixed")
    stack.client.wait(f"/datasets/{uploaded['id']}", timeout=60)
    with http(stack) as client:
        samples = f"/datasets/{uploaded['id']}/samples"
        digit = client.get(f"{samples}/0/thumbnail", params={"size": 192})
        assert digit.headers["content-type"] == "image/png"
        assert digit.content == files[0][1]
        seen = set()
        for query, size in (({}, (96, 48)), ({"size": 96}, (96, 48)), ({"size": 192}, (192, 96))):
            answer = client.get(f"{samples}/1/thumbnail", params=query)
            assert answer.headers["content-type"] == "image/webp"
            assert "immutable" in answer.headers["cache-control"]
            assert Image.open(io.BytesIO(answer.content)).size == size
            seen.add(answer.headers["etag"])
            again = client.get(
                f"{samples}/1/thumbnail", params=query, headers={"if-none-match": answer.headers["etag"]}
            )
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])
        assert len(seen) == 2
        assert client.get(f"{samples}/1/thumbnail", params={"size": 97}).status_code == 422
        assert client.get(f"{samples}/2/thumbnail").status_code == 404


def test_pairs_are_paged_sorted_and_filtered(stack: Server, curation: str) -> None:
    pairs = list(stack.client.pairs(curation))
    row = stack.client.curation(curation)["result"]
    assert len(pairs) == row["pairs"] > 0
    difficulties = [pair["difficulty"] for pair in pairs]
    assert difficulties == sorted(difficulties, reverse=True)
    cut = row["thresholds"]
    for pair in pairs:
        assert pair["in_band"] == (cut["sim_low"] <= pair["similarity"] < cut["sim_high"])
    similarities = [pair["similarity"] for pair in stack.client.pairs(curation, sort="-similarity")]
    assert similarities == sorted((pair["similarity"] for pair in pairs), reverse=True)
    sample = pairs[0]["a"]["index"]
    mine = list(stack.client.pairs(curation, sample=sample))
    assert mine == [pair for pair in pairs if sample in (pair["a"]["index"], pair["b"]["index"])]
    with http(stack) as client:
        page = client.get(f"/curations/{curation}/pairs", params={"limit": 5}).json()
        assert page["total"] == len(pairs)
        assert client.get(f"/curations/{curation}/pairs", params={"cursor": "nonsense"}).status_code == 422


def test_figures_of_a_curation_are_complete(stack: Server, curation: str) -> None:
    with http(stack) as client:
        histogram = client.get(f"/curations/{curation}/histogram").json()
        assert sum(histogram["counts"]) == COUNT * (COUNT - 1) // 2
        assert len(histogram["edges"]) == len(histogram["counts"]) + 1
        estimate = client.get(f"/curations/{curation}/estimate").json()
        assert estimate["classes"] == 10
        assert estimate["alpha"]["low"] <= estimate["alpha"]["value"] <= estimate["alpha"]["high"]
        bound = client.get(f"/curations/{curation}/bound").json()
        assert set(bound) >= {"with", "without", "removed", "margin", "temperature", "eigenvalues", "delta", "k"}


def test_events_tell_the_end_of_a_job_and_resume(stack: Server, curation: str) -> None:
    with http(stack) as client:
        lines = client.get(f"/curations/{curation}/events").text
        last = [line for line in lines.splitlines() if line.startswith("id: ")][-1].removeprefix("id: ")
        assert '"state": "succeeded"' in lines
        resumed = client.get(f"/curations/{curation}/events", headers={"last-event-id": last}).text
        assert "data:" not in resumed


@pytest.mark.parametrize("strategy", ["remove", "combined"])
def test_a_manifest_is_downloaded_and_valid(stack: Server, curation: str, strategy: str, tmp_path: Path) -> None:
    folder = stack.client.manifest(curation, tmp_path / "manifest", strategy=strategy)
    manifest = tamis.read_manifest(folder)
    assert manifest.samples["sample_id"].to_pylist() == [name for name, _ in digit_files(COUNT)]
    assert manifest.description["counts"]["samples"] == COUNT
    assert sum(manifest.description["histogram"]["counts"]) == COUNT * (COUNT - 1) // 2
    assert manifest.description["encoder"]["encoder"] == "embeddings"
    assert manifest.description["strategy"] == strategy
    assert b"tamis" in pq.read_schema(folder / "samples.parquet").metadata


def test_duplicates_are_counted_and_dropped_on_request(stack: Server, tmp_path: Path) -> None:
    files = digit_files(60)
    copies = tuple((f"copy/{number}.png", files[number][1]) for number in (3, 30))
    uploaded = stack.client.upload(write_tar(tmp_path / "copies.tar", files + copies), "copies")
    dataset = stack.client.wait(f"/datasets/{uploaded['id']}", timeout=60)["id"]
    own = digit_embeddings(60)
    # The owner's embeddings tell the second copy from its original, and two other images not.
    rows = np.concatenate([own, own[[3]], own[[31]]])
    rows[50] = rows[20]
    np.save(tmp_path / "embeddings.npy", rows)
    stack.client.send_embeddings(dataset, tmp_path / "embeddings.npy")
    asked = stack.client.curate(dataset, encoder="embeddings", classes=5, neighbours=4)
    curation = stack.client.wait(f"/curations/{asked['id']}", timeout=60)
    assert (curation["result"]["equal_files"], curation["result"]["near_duplicates"]) == (2, 3)
    for duplicates, dropped in (("keep", set()), ("exact", {60, 61}), ("near", {50, 60, 61})):
        made = stack.client.make_manifest(curation["id"], "margin", duplicates=duplicates)
        row = stack.client.wait(f"/manifests/{made['id']}", timeout=60)
        assert (row["result"]["equal_files"], row["result"]["near_duplicates"]) == (2, 3)
        samples = tamis.read_manifest(stack.client.download(made["id"], tmp_path / duplicates)).samples
        reasons = samples["reason"].to_pylist()
        assert {place for place, reason in enumerate(reasons) if reason == "duplicate"} == dropped


def test_a_manifests_files_answer_ranges_and_etags(stack: Server, curation: str) -> None:
    made = stack.client.make_manifest(curation)
    files = stack.client.wait(f"/manifests/{made['id']}", timeout=60)["files"]
    address = f"{stack.url}{files['samples.parquet']}"
    whole = httpx.get(address)
    assert int(whole.headers["content-length"]) == len(whole.content)
    part = httpx.get(address, headers={"range": "bytes=4-11"})
    assert (part.status_code, part.content) == (206, whole.content[4:12])
    assert httpx.get(address, headers={"range": "bytes=-4"}).content == b"PAR1"
    assert httpx.get(address, headers={"if-none-match": whole.headers["etag"]}).status_code == 304


def test_the_same_request_gives_the_same_object_and_bytes(stack: Server, curation: str, tmp_path: Path) -> None:
    dataset = stack.client.curation(curation)["dataset"]
    request = {"encoder": "embeddings", "classes": 10, "neighbours": 8}
    first = stack.client.curate(dataset, idempotency_key="key-1-" + dataset, **request)
    again = stack.client.curate(dataset, idempotency_key="key-1-" + dataset, **request)
    assert first["id"] == again["id"] != curation
    with pytest.raises(tamis.ConflictError):
        stack.client.curate(dataset, idempotency_key="key-1-" + dataset, **{**request, "classes": 9})
    stack.client.wait(f"/curations/{first['id']}", timeout=60)
    folders = [stack.client.manifest(each, tmp_path / each) for each in (curation, first["id"])]
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert contents[0] == contents[1]


def test_decisions_are_kept_undone_and_applied(stack: Server, curation: str, tmp_path: Path) -> None:
    before = tamis.read_manifest(stack.client.manifest(curation, tmp_path / "before")).samples["keep"].to_pylist()
    index = before.index(True)
    with http(stack) as client:
        made = client.post(f"/curations/{curation}/decisions", json={"sample": index, "verdict": "drop"})
        assert made.status_code == 201
        after = tamis.read_manifest(stack.client.manifest(curation, tmp_path / "after")).samples
        assert not after["keep"][index].as_py()
        assert after["reason"][index].as_py() == "decision"
        assert client.post(f"/decisions/{made.json()['id']}/undo").status_code == 201
        assert client.post(f"/decisions/{made.json()['id']}/undo").status_code == 409
        undone = tamis.read_manifest(stack.client.manifest(curation, tmp_path / "undone")).samples
        assert undone["keep"].to_pylist() == before


def test_a_training_reports_a_probe_its_curves_and_its_encoder(stack: Server, curation: str, tmp_path: Path) -> None:
    manifest = stack.client.make_manifest(curation, "combined")
    stack.client.wait(f"/manifests/{manifest['id']}", timeout=60)
    asked = stack.client.train(manifest["id"], epochs=1, batch_size=64)
    row = stack.client.wait(f"/trainings/{asked['id']}", timeout=120)
    assert 0 <= row["result"]["probe"]["low"] <= row["result"]["probe"]["accuracy"] <= 1
    with http(stack) as client:
        curves = client.get(f"/trainings/{asked['id']}/curves").json()["curves"]
        assert curves["loss"]["steps"] == sorted(curves["loss"]["steps"])
        trained = client.get(f"/trainings/{asked['id']}/encoder")
    (tmp_path / "encoder.pt").write_bytes(trained.content)
    assert fingerprint(load_encoder(tmp_path / "encoder.pt")) == row["result"]["encoder_fingerprint"]


def test_a_cancelled_curation_stays_cancelled(stack: Server, dataset: str) -> None:
    asked = stack.client.curate(dataset, encoder="simclr", epochs=10_000)
    with http(stack) as client:
        assert client.delete(f"/curations/{asked['id']}").status_code == 202
    with pytest.raises(tamis.TamisError, match="cancelled"):
        stack.client.wait(f"/curations/{asked['id']}", timeout=30)
    # The queue is free again: other work gets through.
    other = stack.client.curate(dataset, encoder="embeddings", classes=10)
    assert stack.client.wait(f"/curations/{other['id']}", timeout=60)["state"] == "succeeded"
    with http(stack) as client:
        assert client.delete(f"/curations/{asked['id']}").status_code == 204
        assert client.get(f"/curations/{asked['id']}").status_code == 404


def zip_of(**files: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


GOOD = dict(digit_files(6))

BAD_ARCHIVES = {
    "empty": (b"", "empty"),
    "not an archive": (b"hello there, no archive", "zip"),
    "truncated zip": (zip_of(**GOOD)[:-60], "zip"),
    "zip without files": (zip_of(), "no"),
    "empty tar": (bytes(10_240), ""),
}


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_an_archive_that_cannot_be_read_is_refused_at_once(stack: Server, kind: str) -> None:
    content, named = BAD_ARCHIVES[kind]
    with http(stack) as client:
        row = client.post("/datasets", json={"name": kind}).json()
        answer = client.post(f"/datasets/{row['id']}/archive", content=content)
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["type"] == "urn:tamis:problem:invalid-input"
        assert named in problem["detail"]
        # The data set takes a better archive.
        again = client.post(f"/datasets/{row['id']}/archive", content=zip_of(**GOOD))
        assert again.status_code == 202, again.text
    assert stack.client.wait(f"/datasets/{row['id']}", timeout=60)["samples"] == len(GOOD)


def test_good_images_are_kept_and_bad_ones_listed(stack: Server) -> None:
    name, content = digit_files(6)[0]
    archive = zip_of(
        **GOOD,
        **{"../outside.png": content, "/absolute.png": content, "9/text.png": b"just text", "9/cut.png": content[:40]},
    )
    sink = io.BytesIO(archive)
    with zipfile.ZipFile(sink, "a") as opened, pytest.warns(UserWarning, match="Duplicate"):
        opened.writestr(name, content)
    with http(stack) as client:
        row = client.post("/datasets", json={"name": "mixed"}).json()
        client.post(f"/datasets/{row['id']}/archive", content=sink.getvalue())
        stored = stack.client.wait(f"/datasets/{row['id']}", timeout=60)
        assert (stored["samples"], stored["quarantined"]) == (len(GOOD), 5)
        listed = client.get(f"/datasets/{row['id']}/quarantine").json()["items"]
    assert {item["name"] for item in listed} == {"../outside.png", "/absolute.png", "9/text.png", "9/cut.png", name}
    assert all(item["reason"] for item in listed)


def test_an_archive_of_undecodable_files_fails_with_the_cause(stack: Server) -> None:
    with http(stack) as client:
        row = client.post("/datasets", json={"name": "text"}).json()
        client.post(f"/datasets/{row['id']}/archive", content=zip_of(**{"a.png": b"text"}))
        with pytest.raises(tamis.TamisError, match="image"):
            stack.client.wait(f"/datasets/{row['id']}", timeout=60)
        assert client.delete(f"/datasets/{row['id']}").status_code == 204
        assert client.get(f"/datasets/{row['id']}").status_code == 404


def test_too_few_images_cannot_be_curated(stack: Server) -> None:
    with http(stack) as client:
        row = client.post("/datasets", json={"name": "three"}).json()
        client.post(f"/datasets/{row['id']}/archive", content=zip_of(**dict(digit_files(3))))
        stack.client.wait(f"/datasets/{row['id']}", timeout=60)
        answer = client.post("/curations", json={"dataset": row["id"]})
        assert answer.status_code == 422
        assert "at least 4" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoder": "nonesuch"}, "simclr"),
        ({"pos_high": 0}, "pos_high"),
        ({"pos_high": 1.5}, "pos_high"),
        ({"pos_high": 0.5, "pos_low": 0.4}, "pos_low"),
        ({"classes": 1}, "classes"),
        ({"neighbours": 0}, "neighbours"),
        ({"nonesuch": 1}, "nonesuch"),
        ({"dataset": "ds_nonesuch"}, "ds_nonesuch"),
    ],
)
def test_a_bad_curation_request_is_refused_with_the_field(
    stack: Server, dataset: str, change: dict, named: str
) -> None:
    with http(stack) as client:
        answer = client.post("/curations", json={"dataset": dataset, **change})
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert named in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["nan", "short", "pickle", "text", "one-dimensional"])
def test_bad_embeddings_are_refused(stack: Server, dataset: str, kind: str) -> None:
    array = digit_embeddings(COUNT)
    if kind == "nan":
        array[17, 3] = np.nan
    sink = io.BytesIO()
    chosen = {"short": array[:-1], "one-dimensional": array[:, 0], "pickle": np.array([{}] * COUNT)}.get(kind, array)
    np.save(sink, chosen, allow_pickle=True)
    content = b"1,2,3" if kind == "text" else sink.getvalue()
    with http(stack) as client:
        answer = client.post(f"/datasets/{dataset}/embeddings", content=content)
    assert answer.status_code == 422, answer.text
    if kind == "nan":
        assert "17" in answer.json()["detail"]


def test_embeddings_that_name_their_rows_come_in_any_order(stack: Server, dataset: str, tmp_path: Path) -> None:
    array, order = digit_embeddings(COUNT), np.random.default_rng(0).permutation(COUNT)
    np.save(tmp_path / "own.npy", array.astype(">f8"))
    plain = stack.client.send_embeddings(dataset, tmp_path / "own.npy")
    names = [digit_files(COUNT)[row][0] for row in order]
    pq.write_table(pa.table({"sample_id": names, "e": list(array[order])}), tmp_path / "own.parquet")
    # The same numbers for the same samples are the same embeddings.
    assert stack.client.send_embeddings(dataset, tmp_path / "own.parquet") == plain
    pq.write_table(pa.table({"path": ["x.png", *names[1:]], "e": list(array[order])}), tmp_path / "own.parquet")
    with pytest.raises(tamis.InputError) as refused:
        stack.client.send_embeddings(dataset, tmp_path / "own.parquet")
    for told in ("The file does not fit", f"1 ({names[0]}) without a row", "1 (x.png) in it that name no sample"):
        assert told in str(refused.value)


def test_every_address_of_openapi_answers_problems_in_json(stack: Server) -> None:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        document = client.get("/api/openapi.json").json()
        told = json.dumps(document)
        assert not any(address in told for address in ("http://", "https://"))
        for path, operations in document["paths"].items():
            filled = path.replace("{name}", "samples.parquet")
            for part in ("dataset_id", "curation_id", "manifest_id", "training_id", "upload_id"):
                filled = filled.replace("{" + part + "}", "nonesuch")
            for part in ("number", "decision_id"):
                filled = filled.replace("{" + part + "}", str(2**70))
            if "events" in filled and "nonesuch" not in filled:
                continue
            for method in operations:
                answer = client.request(method, filled)
                assert answer.status_code < 500, (method, filled, answer.text)
                if answer.status_code >= 400:
                    assert answer.headers["content-type"] == "application/problem+json", (method, filled)
                    if method == "head":
                        continue
                    assert {"type", "title", "status", "detail"} <= set(answer.json())
