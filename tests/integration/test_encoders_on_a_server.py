"""Every kind of encoder that a server takes, from the request to the manifest, with a real worker."""

import io
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from harness import Server, serving
from programs import payload, scripted
from samples import digit_files, write_tar
from torch import nn
from torchvision import models

import tamis
from tamis.commands.cli import main
from tamis.encoders.encoder import Encoder, build_encoder, encoder_bytes, fingerprint, with_views
from tamis.encoders.files import load_encoder
from tamis.encoders.inference import Embedder
from tamis.encoders.spec import EncoderSpec
from tamis.images import decode
from worker.local import curate_source

COUNT = 20


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TORCH_HOME with weights that torchvision would have downloaded."""
    home = tmp_path_factory.mktemp("torch")
    (home / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(models.resnet18().state_dict(), home / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    return home


@pytest.fixture(scope="module")
def stack(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Nothing answers at the proxy, whatever network the tests run on.
    environment = {"TORCH_HOME": str(weights), "https_proxy": "http://127.0.0.1:9"}
    with serving(tmp_path_factory.mktemp("stack") / "data", env=environment) as running:
        yield running


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tar(tmp_path_factory.mktemp("digits") / "digits.tar", digit_files(COUNT))


@pytest.fixture(scope="module")
def dataset(stack: Server, archive: Path) -> str:
    return ingested(stack, archive)


def ingested(stack: Server, archive: Path) -> str:
    uploaded = stack.client.upload(archive, "digits")
    return str(stack.client.wait(f"/datasets/{uploaded['id']}", timeout=60)["id"])


def manifest_encoder(stack: Server, dataset: str, folder: Path, encoder: str, views: int = 1) -> dict[str, object]:
    asked = stack.client.curate(dataset, encoder=encoder, views=views, classes=10)
    stack.client.wait(f"/curations/{asked['id']}", timeout=120)
    found: dict[str, object] = tamis.read_manifest(stack.client.manifest(asked["id"], folder)).description["encoder"]
    return found


def told(name: str, encoder: Encoder) -> dict[str, object]:
    return {
        "encoder": name,
        "encoder_fingerprint": fingerprint(encoder),
        "dimension": encoder.dimension,
        "architecture": encoder.spec.architecture,
        "image_size": encoder.spec.image_size,
    }


def features(stack: Server) -> dict[str, int]:
    """Every object of features, and when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in (stack.data / "objects" / "features").rglob("*.npy")}


def test_an_encoder_that_was_sent_is_used_and_named_by_its_weights(stack: Server, dataset: str, tmp_path: Path) -> None:
    encoder = build_encoder(EncoderSpec("small", 16), 7)
    (tmp_path / "encoder.pt").write_bytes(encoder_bytes(encoder))
    sent = stack.client.send_encoder(tmp_path / "encoder.pt")
    assert sent == stack.client.send_encoder(tmp_path / "encoder.pt")
    assert sent["encoder"] == f"checkpoint:{fingerprint(encoder)}"
    assert (sent["architecture"], sent["image_size"], sent["dimension"]) == ("small", 16, 128)
    assert (sent["name"], stack.client.encoders()) == ("encoder.pt", [sent])
    one = manifest_encoder(stack, dataset, tmp_path / "one", sent["encoder"])
    assert one == told("checkpoint", encoder)
    made = features(stack)
    # Asked for again, nothing is embedded again; other views are other features.
    assert manifest_encoder(stack, dataset, tmp_path / "again", sent["encoder"]) == one
    assert features(stack) == made
    two = manifest_encoder(stack, dataset, tmp_path / "two", sent["encoder"], views=2)
    assert two["encoder_fingerprint"] == fingerprint(with_views(encoder, 2))
    assert len(features(stack)) == 2 * len(made)


def test_an_encoder_sent_by_several_at_once_is_listed_once(stack: Server, tmp_path: Path) -> None:
    file = tmp_path / "shared.pt"
    file.write_bytes(encoder_bytes(build_encoder(EncoderSpec("small", 16), 11)))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(stack.client.send_encoder, [file] * 4))
    assert answers == answers[:1] * 4
    assert [known["name"] for known in stack.client.encoders()].count("shared.pt") == 1


def test_a_server_scores_as_the_command_line_does_and_both_by_blends_of_images(
    stack: Server, dataset: str, archive: Path, tmp_path: Path
) -> None:
    encoder, file = build_encoder(EncoderSpec("small", 16), 9), tmp_path / "encoder.pt"
    file.write_bytes(encoder_bytes(encoder))
    manifest_encoder(stack, dataset, tmp_path / "served", stack.client.send_encoder(file)["encoder"])
    curate_source(archive, tmp_path / "own", encoder=f"checkpoint:{file}", classes=10)
    served, own = (tamis.read_manifest(tmp_path / name).samples["difficulty"] for name in ("served", "own"))
    assert served.equals(own)
    images = [encoder.spec.pixels(decode(data)) for _, data in digit_files(COUNT)]
    alone = tamis.curate(Embedder.of(encoder, "cpu").of_pixels(np.stack(images)), classes=10)
    assert not np.allclose(alone.difficulty, own.to_numpy(), atol=0.01)


def test_weights_of_a_library_are_used_where_the_worker_has_them(
    stack: Server, dataset: str, weights: Path, tmp_path: Path
) -> None:
    found = manifest_encoder(stack, dataset, tmp_path / "manifest", "torchvision:resnet18")
    loaded = load_encoder(next(weights.rglob("*.pth")))
    assert found == told("torchvision:resnet18", loaded)


def test_a_job_whose_weights_are_nowhere_fails_and_says_where_to_put_them(stack: Server, dataset: str) -> None:
    asked = stack.client.curate(dataset, encoder="torchvision:resnet34")
    with pytest.raises(tamis.TamisError, match=r"resnet34-b627a593\.pth.*Put the file there"):
        stack.client.wait(f"/curations/{asked['id']}", timeout=60)


@pytest.mark.parametrize(
    ("encoder", "status", "told"),
    [
        ("torchvision:resnet99", 422, "resnet18"),
        ("torchvision:resnet18@/etc/passwd", 422, "torchvision:NAME"),
        ("checkpoint:/etc/passwd", 422, "object key"),
        (f"checkpoint:{'0' * 64}", 404, "POST its file to /encoders"),
        ("embeddings:file.npy", 422, "checkpoint:FINGERPRINT"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_refused_at_once(
    stack: Server, dataset: str, encoder: str, status: int, told: str
) -> None:
    answer = httpx.post(f"{stack.url}/api/v1/curations", json={"dataset": dataset, "encoder": encoder}, timeout=60)
    assert answer.status_code == status
    assert told in answer.json()["detail"]


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("touched-by-a-pickle"),)


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps(Trap())], ids=["empty", "text", "pickle"])
def test_what_is_no_encoder_is_refused_without_a_trace(stack: Server, content: bytes) -> None:
    def objects() -> list[Path]:
        return sorted((stack.data / "objects").glob("[eu]*/**/*"))

    before = objects()
    answer = httpx.post(f"{stack.url}/api/v1/encoders", content=content, timeout=60)
    assert answer.status_code == 422
    assert "The file" in answer.json()["detail"]
    assert objects() == before
    assert not Path("touched-by-a-pickle").exists()


def test_the_network_can_be_named_where_the_weights_do_not_tell(stack: Server) -> None:
    sink = io.BytesIO()
    torch.save(models.shufflenet_v2_x0_5().state_dict(), sink)
    address = f"{stack.url}/api/v1/encoders"
    refused = httpx.post(address, content=sink.getvalue(), timeout=60)
    assert refused.status_code == 422
    taken = httpx.post(
        address, content=sink.getvalue(), params={"architecture": "torchvision:shufflenet_v2_x0_5"}, timeout=60
    )
    assert (taken.status_code, taken.json()["dimension"]) == (201, 1024)


def test_torchscript_is_refused_and_not_run(stack: Server, tmp_path: Path) -> None:
    answer = httpx.post(f"{stack.url}/api/v1/encoders", content=payload(tmp_path / "touched"), timeout=60)
    assert answer.status_code == 422
    assert "TAMIS_ALLOW_TORCHSCRIPT=true" in answer.json()["detail"]
    assert "with the rights of this process" in answer.json()["detail"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_goes_the_whole_way_where_it_is_allowed_and_ends_where_it_no_longer_is(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2), nn.ReLU())
    file, data = tmp_path / "own.pt", tmp_path / "data"
    file.write_bytes(scripted(network, image_size=24, mean=[0.1, 0.1, 0.1]))
    encoder = load_encoder(file, allow_torchscript=True)
    with serving(data, env={"TAMIS_ALLOW_TORCHSCRIPT": "true"}) as allowing:
        dataset = ingested(allowing, archive)
        sent = allowing.client.send_encoder(file)
        assert (sent["architecture"], sent["image_size"], sent["dimension"]) == ("torchscript", 24, 24)
        assert sent["fingerprint"] == fingerprint(encoder)
        assert (data / "objects" / "encoders" / f"{fingerprint(encoder)}.pt").read_bytes() == file.read_bytes()
        one = manifest_encoder(allowing, dataset, tmp_path / "one", sent["encoder"])
        assert one == told("checkpoint", encoder)
        made = features(allowing)
        assert manifest_encoder(allowing, dataset, tmp_path / "again", sent["encoder"]) == one
        assert features(allowing) == made
        two = manifest_encoder(allowing, dataset, tmp_path / "two", sent["encoder"], views=2)
        assert two["encoder_fingerprint"] == fingerprint(with_views(encoder, 2))
        assert len(features(allowing)) == 2 * len(made)
    command = ["curate", str(archive), "-o", str(tmp_path / "own"), "--encoder", f"checkpoint:{file}"]
    assert main([*command, "--classes", "10"]) != 0
    assert list((tmp_path / "own").iterdir()) == []
    with monkeypatch.context() as allowed:
        allowed.setenv("TAMIS_ALLOW_TORCHSCRIPT", "true")
        assert main([*command, "--classes", "10"]) == 0
    served, own = (tamis.read_manifest(tmp_path / name) for name in ("one", "own"))
    assert served.description["encoder"] == own.description["encoder"]
    assert served.samples["difficulty"].equals(own.samples["difficulty"])
    with serving(data) as refusing:
        asked = refusing.client.curate(dataset, encoder=sent["encoder"], seed=1)
        with pytest.raises(tamis.TamisError, match="TAMIS_ALLOW_TORCHSCRIPT=true"):
            refusing.client.wait(f"/curations/{asked['id']}", timeout=60)
