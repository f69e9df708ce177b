"""The client for coroutines is the client; any route can be asked; and how far a job is, is told in a line."""

import asyncio
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from harness import Server, serving
from samples import digit_files, write_folder

import tamis
from tamis.client.following import told_in_a_line

COUNT = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("awaited") / "data") as found:
        yield found


def test_every_method_is_there_with_its_parameters_and_words() -> None:
    public = {name: each for name, each in vars(tamis.Client).items() if not name.startswith("_")}
    for name, method in public.items():
        twin = getattr(tamis.AsyncClient, name)
        assert inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin)
        assert list(inspect.signature(twin).parameters) == list(inspect.signature(method).parameters)
    assert {name for name in vars(tamis.AsyncClient) if not name.startswith("_")} == set(public)
    assert tamis.AsyncClient.upload.__doc__ == tamis.Client.upload.__doc__


def test_a_whole_job_is_awaited(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photos = write_folder(tmp_path / "photos", digit_files(COUNT))
    np.save(tmp_path / "e.npy", np.random.default_rng(0).standard_normal((COUNT, 8)).astype(np.float32))

    async def one(client: tamis.AsyncClient, name: str) -> dict[str, Any]:
        dataset = await client.upload(photos, name)
        await client.wait(f"/datasets/{dataset['id']}", timeout=60)
        await client.send_embeddings(dataset["id"], tmp_path / "e.npy")
        curation = await client.curate(dataset["id"], encoder="embeddings", classes=3)
        return await client.wait(f"/curations/{curation['id']}", progress=True, timeout=60)

    async def main() -> dict[str, Any]:
        async with tamis.AsyncClient(server.url) as client:
            first, second = await asyncio.gather(one(client, "first"), one(client, "second"))
            pairs = [pair async for pair in client.pairs(first["id"])]
            assert pairs == list(server.client.pairs(first["id"]))
            assert len([each async for each in client.items(f"/datasets/{first['dataset']}/samples", limit=7)]) == COUNT
            with pytest.raises(tamis.NotFoundError):
                await client.dataset("ds_none")
            assert first["dataset"] != second["dataset"]
            return first

    curation = asyncio.run(main())
    assert re.search(rf"^{curation['id']} succeeded$", capfd.readouterr().err, re.MULTILINE)
    client = server.client
    assert (
        client.request("GET", f"/curations/{curation['id']}/pairs", limit=1)["items"]
        == list(client.pairs(curation["id"]))[:1]
    )
    thumbnail = f"/datasets/{curation['dataset']}/samples/0/thumbnail"
    assert client.content(thumbnail) == asyncio.run(_content(server.url, thumbnail))
    renamed = client.request("PATCH", f"/datasets/{curation['dataset']}", {"name": "renamed"})
    assert renamed["name"] == client.dataset(curation["dataset"])["name"] == "renamed"
    with pytest.raises(tamis.NotFoundError):
        client.content("/datasets/ds_none/samples/0/image")


async def _content(url: str, path: str) -> bytes:
    async with tamis.AsyncClient(url) as client:
        return await client.content(path)


def test_a_wait_that_is_cancelled_ends_at_once(server: Server) -> None:
    async def main() -> None:
        async with tamis.AsyncClient(server.url) as client:
            dataset = await client.request("POST", "/datasets", {"name": "empty"})
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.wait(f"/datasets/{dataset['id']}"), 1)
            with pytest.raises(TimeoutError, match="is still empty"):
                await client.wait(f"/datasets/{dataset['id']}", timeout=0.1)

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("place", ["notebook", "pipe"])
def test_a_line_is_told_anew_where_it_can_be(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "notebook":
        monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    tell = told_in_a_line()
    for done in (1, 12):
        now = {"stage": "embed", "done": done, "total": 12, "message": "quick\x1b"}
        tell({"id": "cu_1", "state": "running", "progress": now})
    tell({"id": "cu_1", "state": "succeeded", "progress": {"stage": "", "done": 0, "total": 0, "message": ""}})
    first, second = (f"cu_1 embed: {done} of 12 quick\\x1b" for done in (1, 12))
    over = f"\r{first}\r{second}\r{'cu_1 succeeded':{len(second)}}\n"
    assert capsys.readouterr().err == (over if place == "notebook" else f"{first}\ncu_1 succeeded\n")


def test_values_show_themselves_in_a_notebook(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((60, 8))
    curation = tamis.curate(rows, classes=3)
    manifest = curation.select("combined", fraction=0.1)
    read = tamis.read_manifest(manifest.write(tmp_path / "out"))
    assert "<b>Curation of 60 samples</b>" in curation._repr_html_()
    assert "<b>Manifest of 54 of 60 samples</b>" in manifest._repr_html_() == read._repr_html_()
    assert "margin 0.2, temperature times 0.5" in read._repr_html_()
    scan = tamis.pair_scan(rows, k=5)
    assert "<b>Scan of 60 samples</b>" in scan._repr_html_()
    assert f"<b>Similarities of {60 * 59 // 2:,} pairs</b>" in scan.histogram._repr_html_()
    read.description["encoder"] = "<script>"
    assert "&lt;script&gt;" in read._repr_html_()
