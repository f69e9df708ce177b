"""What a curation's page draws, against brute force over all its pairs; on SQLite and a folder, PostgreSQL and S3."""

import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from harness import Server, serving, until
from samples import digit_embeddings, digit_files, write_tar
from sklearn.manifold import trustworthiness

COUNT = 240


@pytest.fixture(scope="module", params=["sqlite and folder", "postgresql and s3"])
def curated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Curated"]:
    folder = tmp_path_factory.mktemp("explored")
    environment = request.getfixturevalue("postgres_and_s3") if request.param == "postgresql and s3" else {}
    with serving(folder / "data", env=environment) as server:
        uploaded = server.client.upload(write_tar(folder / "digits.tar", digit_files(COUNT)), "digits")
        dataset = server.client.wait(f"/datasets/{uploaded['id']}", timeout=60)["id"]
        np.save(folder / "embeddings.npy", digit_embeddings(COUNT))
        server.client.send_embeddings(dataset, folder / "embeddings.npy")
        asked = server.client.curate(dataset, encoder="embeddings", classes=10, neighbours=8)
        curation = server.client.wait(f"/curations/{asked['id']}", timeout=60)["id"]
        with httpx.Client(base_url=f"{server.url}/api/v1/curations/{curation}", timeout=30) as client:
            # What draws the map comes after the result.
            until(lambda: "None" not in client.get("map").headers.get("etag", "None"), 60, "the layout")
            yield Curated(server, client, curation)


class Curated:
    def __init__(self, server: Server, client: httpx.Client, curation: str) -> None:
        self.server, self.client, self.id = server, client, curation
        self.pairs = list(server.client.pairs(curation))

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.client.get(path, params=parameters)
        answer.raise_for_status()
        return answer.json()

    def table(self, path: str) -> pa.Table:
        answer = self.client.get(path)
        assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
        return pa.ipc.open_stream(io.BytesIO(answer.content)).read_all()

    def post(self, path: str, **body: Any) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()


def clusters(pair: dict[str, Any]) -> set[int]:
    return {pair["a"]["cluster"], pair["b"]["cluster"]}


def indices(pairs: list[dict[str, Any]]) -> set[int]:
    return {pair[side]["index"] for pair in pairs for side in "ab"}


@pytest.mark.parametrize("sort", ["-difficulty", "-similarity", "similarity"])
@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({}, lambda pair: True),
        ({"sim_low": 0.6, "sim_high": 0.8}, lambda pair: np.float32(0.6) <= pair["similarity"] < np.float32(0.8)),
        ({"cluster_a": 3}, lambda pair: 3 in clusters(pair)),
        ({"cluster_a": 3, "cluster_b": 8}, lambda pair: clusters(pair) == {3, 8}),
        ({"cluster_a": 5, "cluster_b": 5}, lambda pair: clusters(pair) == {5}),
        ({"apart": True}, lambda pair: len(clusters(pair)) == 2),
        ({"apart": False, "sim_high": 0.9}, lambda pair: len(clusters(pair)) == 1 and pair["similarity"] < 0.9),
        ({"sample": 17}, lambda pair: 17 in indices([pair])),
        (
            {"sample": 17, "apart": True, "sim_low": 0.7},
            lambda pair: 17 in indices([pair]) and len(clusters(pair)) == 2,
        ),
        ({"cluster_a": 10**6}, lambda pair: False),
        ({"sample": 10**6}, lambda pair: False),
        ({"cluster_a": 10**6, "cluster_b": 1}, lambda pair: False),
    ],
)
def test_pairs_are_those_that_a_filter_means(curated: Curated, sort: str, asked: dict[str, Any], meant: Any) -> None:
    expected = [pair for pair in curated.pairs if meant(pair)]
    if sort != "-difficulty":
        expected.sort(key=lambda pair: -pair["similarity"])
    if sort == "similarity":
        expected.reverse()
    answer = curated.get("pairs", sort=sort, limit=500, **asked)
    assert answer["total"] == len(expected)
    assert answer["items"] == expected[:500]
    middle = curated.get("pairs", sort=sort, limit=3, offset=len(expected) // 2, **asked)
    assert middle["items"] == expected[len(expected) // 2 :][:3]


def test_the_hardest_pairs_are_the_first_of_all(curated: Curated) -> None:
    expected = [pair for pair in curated.pairs[:100] if len(clusters(pair)) == 2]
    assert curated.get("pairs", hardest=100, apart=True)["items"] == expected
    falling = [pair["similarity"] for pair in curated.get("pairs", hardest=100, sort="-similarity")["items"]]
    assert falling == sorted((pair["similarity"] for pair in curated.pairs[:100]), reverse=True)


def test_shares_of_all_pairs_cut_where_their_similarities_do(curated: Curated) -> None:
    cut = curated.server.client.curation(curated.id)["result"]["thresholds"]
    by_share = curated.get("pairs", pos_low=cut["pos_low"], pos_high=cut["pos_high"])
    assert by_share == curated.get("pairs", sim_low=cut["sim_low"], sim_high=cut["sim_high"])
    assert all(pair["in_band"] for pair in by_share["items"])
    assert curated.client.get("pairs", params={"pos_low": 0.5, "sim_low": 0.5}).status_code == 422
    assert curated.client.get("pairs", params={"cursor": "x", "offset": 1}).status_code == 422
    assert curated.client.get("pairs", params={"sort": "nonsense"}).status_code == 422


def test_every_cut_is_told_in_advance(curated: Curated) -> None:
    told = curated.table("recut").to_pydict()
    edges, samples = told["edge"], told["samples"]
    histogram = curated.get("histogram")
    result = curated.server.client.curation(curated.id)["result"]
    band = low, high = tuple(edges.index(result["thresholds"][name]) for name in ("sim_low", "sim_high"))
    assert told["pairs"][high] - told["pairs"][low] == result["counted_pairs"]
    assert told["pairs"][-1] == sum(histogram["counts"])
    for first, last in ((0, len(edges) - 1), band, (len(edges) // 2, len(edges) // 2 + 9)):
        asked = {"sim_low": edges[first], "sim_high": edges[last]}
        answer = curated.client.get("flags", params=asked)
        assert told["listed"][last] - told["listed"][first] == int(answer.headers["x-pairs"])
        assert samples[first][last] - samples[first][first] == int(answer.headers["x-samples"])


def test_flags_are_bits_in_the_order_of_the_map(curated: Curated) -> None:
    drawn = curated.table("map").to_pydict()
    assert sorted(drawn["sample"]) == [*range(COUNT)]
    assert drawn["sample"] != sorted(drawn["sample"])
    answer = curated.client.get("flags", params={"hardest": 20})
    bits = np.unpackbits(np.frombuffer(answer.content, np.uint8), bitorder="little", count=COUNT).astype(bool)
    assert {*np.array(drawn["sample"])[bits].tolist()} == indices(curated.pairs[:20])
    by_sample = {side["index"]: side for pair in curated.pairs for side in (pair["a"], pair["b"])}
    for sample, cluster, difficulty in zip(drawn["sample"], drawn["cluster"], drawn["difficulty"], strict=True):
        if sample in by_sample:
            assert (by_sample[sample]["cluster"], by_sample[sample]["difficulty"]) == (cluster, difficulty)


def test_a_box_on_the_map_chooses_the_pairs_of_what_is_drawn_in_it(curated: Curated) -> None:
    drawn = curated.table("map").to_pydict()
    left, right = np.quantile(drawn["x"], [0.2, 0.5]).tolist()
    box = [left, min(drawn["y"]), right, max(drawn["y"])]
    inside = {sample for sample, x in zip(drawn["sample"], drawn["x"], strict=True) if left <= x <= right}
    found = curated.get("pairs", box=",".join(map(repr, box)), limit=500)
    assert found["items"] == [pair for pair in curated.pairs if indices([pair]) & inside][:500]
    dry = curated.post("decisions/bulk", verdict="drop", pairs={"box": box}, of_pairs="both", dry_run=True)
    assert dry["matched"] == len(indices([pair for pair in curated.pairs if indices([pair]) & inside]))
    assert curated.client.get("pairs", params={"box": "1,2,3"}).status_code == 422


def test_the_map_has_samples_beside_those_that_they_are_like(curated: Curated) -> None:
    drawn = curated.table("map").sort_by("sample")
    embedded = digit_embeddings(COUNT)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    places = np.stack([drawn["x"].to_numpy(), drawn["y"].to_numpy()], axis=1)
    assert trustworthiness(embedded, places, n_neighbors=5) > 0.95


def test_a_map_that_is_there_already_is_not_sent_again(curated: Curated) -> None:
    for path in ("map", "recut"):
        etag = curated.client.get(path).headers["etag"]
        assert curated.client.get(path, headers={"if-none-match": etag}).status_code == 304


def test_confusion_counts_pairs_between_clusters(curated: Curated) -> None:
    chosen = [pair for pair in curated.pairs if pair["similarity"] < np.float32(0.8)]
    counts = Counter((min(clusters(pair)), max(clusters(pair))) for pair in chosen)
    answer = curated.get("confusion", sim_high=0.8)
    assert {(a, b): count for a, b, count in answer["cells"]} == counts
    assert (answer["pairs"], answer["clusters"], answer["left_out"]) == (len(chosen), 10, 0)
    assert sorted(answer["arranged"]) == [*range(10)]


def test_a_rank_says_where_a_similarity_stands(curated: Curated) -> None:
    pairs = sorted((pair["similarity"] for pair in curated.pairs), reverse=True)
    answer = curated.get("pairs/rank", similarity=pairs[40])
    assert pairs[answer["row"] - 1] >= pairs[40]
    assert (answer["listed"], answer["total"]) == (len(pairs), COUNT * (COUNT - 1) // 2)
    embedded = digit_embeddings(COUNT).astype(np.float64)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    every = (embedded @ embedded.T)[np.triu_indices(COUNT, 1)]
    assert answer["below"] == pytest.approx((every < pairs[40]).sum(), abs=30)


def test_clusters_are_told_with_their_sizes_medoids_and_pairs(curated: Curated) -> None:
    items = curated.get("clusters")["items"]
    assert sum(item["samples"] for item in items) == COUNT
    for item in items:
        inside = [pair for pair in curated.pairs if clusters(pair) == {item["cluster"]}]
        outside = [pair for pair in curated.pairs if item["cluster"] in clusters(pair) and len(clusters(pair)) == 2]
        assert (item["pairs_inside"], item["pairs_outside"]) == (len(inside), len(outside))
        [medoid] = curated.get("samples", sort="index", offset=item["medoid"], limit=1)["items"]
        assert (medoid["index"], medoid["cluster"]) == (item["medoid"], item["cluster"])


def test_samples_are_ranked_and_filtered(curated: Curated) -> None:
    every = curated.get("samples", limit=500)["items"]
    assert [each["difficulty"] for each in every] == sorted((each["difficulty"] for each in every), reverse=True)
    threes = curated.get("samples", label="3", limit=500)["items"]
    assert threes == [each for each in every if each["label"] == "3"] != []
    cut = every[50]["difficulty"]
    asked = curated.get("samples", cluster=every[0]["cluster"], difficulty_low=cut, sort="difficulty", limit=500)[
        "items"
    ]
    expected = [each for each in every if each["cluster"] == every[0]["cluster"] and each["difficulty"] >= cut]
    assert [each["index"] for each in asked] == [each["index"] for each in reversed(expected)]
    assert curated.client.get("samples", params={"nonsense": 1}).status_code == 422


def test_a_bulk_decision_is_counted_made_and_undone_as_one(curated: Curated) -> None:
    asked = {"verdict": "drop", "pairs": {"hardest": 30, "apart": True}}
    pairs = [pair for pair in curated.pairs[:30] if len(clusters(pair)) == 2]
    more = {max(pair["a"], pair["b"], key=lambda side: side["difficulty"])["index"] for pair in pairs}
    dry = curated.post("decisions/bulk", **asked, dry_run=True)
    assert dry == {"matched": len(more), "changed": len(more), "batch": None}
    assert curated.get("samples", decision="decided")["total"] == 0
    first = curated.post("decisions", sample=min(more), verdict="drop", note="seen")
    made = curated.post("decisions/bulk", **asked)
    assert (made["matched"], made["changed"]) == (len(more), len(more) - 1)
    assert {each["index"] for each in curated.get("samples", decision="drop", limit=500)["items"]} == more
    undecided = curated.get("pairs", decision="undecided")["total"]
    assert undecided == sum(not indices([pair]) & more for pair in curated.pairs)
    assert curated.post("decisions/bulk", **asked)["changed"] == 0
    newest = curated.get("decisions", newest=True, limit=1)["items"][0]
    assert (newest["batch"], newest["verdict"], newest["undone"]) == (made["batch"], "drop", False)
    assert curated.post(f"decisions/bulk/{made['batch']}/undo") == {"undone": len(more) - 1}
    assert curated.client.post(f"decisions/bulk/{made['batch']}/undo", json={}).status_code == 409
    standing = curated.get("samples", decision="decided")["items"]
    assert [(each["index"], each["decision"]) for each in standing] == [
        (min(more), {"id": first["id"], "verdict": "drop"})
    ]
    both = curated.post("decisions/bulk", verdict="keep", pairs=asked["pairs"], of_pairs="both", dry_run=True)
    assert both["matched"] == len(indices(pairs))
    hard = curated.get("samples", offset=4, limit=1)["items"][0]["difficulty"]
    by_cut = curated.post("decisions/bulk", verdict="drop", samples={"difficulty_low": hard}, dry_run=True)
    assert by_cut["matched"] == 5
    refused = {"verdict": "drop", "samples": {}, "pairs": {}}
    assert curated.client.post("decisions/bulk", json=refused).status_code == 422


def test_a_curation_without_a_result_has_nothing_to_draw(curated: Curated) -> None:
    with httpx.Client(base_url=f"{curated.server.url}/api/v1", timeout=30) as client:
        assert client.get("/curations/cu_nonesuch/map").status_code == 404
