"""A job that failed or was cancelled is tried again under the same row."""

from pathlib import Path

import httpx
import pytest
from harness import Server, until
from samples import digit_files, write_tar

import tamis


def test_what_was_cancelled_is_tried_again(server: Server, tmp_path: Path) -> None:
    dataset = server.client.upload(write_tar(tmp_path / "digits.tar", digit_files(60)), "again")["id"]
    server.client.wait(f"/datasets/{dataset}", timeout=60)
    asked = server.client.curate(dataset, encoder="simclr", steps=100, classes=5)["id"]
    with httpx.Client(base_url=f"{server.url}/api/v1/jobs", timeout=30) as client:
        until(lambda: client.get(f"/{asked}").json()["state"] == "running", 30, "a running curation")
        assert client.post(f"/{asked}/retry").status_code == 409
        cancelled = client.post(f"/{asked}/cancel")
        assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
        assert cancelled.json()["progress"]["message"] == ""
        assert client.post(f"/{asked}/cancel").status_code == 409
        again = client.post(f"/{asked}/retry")
        assert (again.status_code, again.json()["id"], again.json()["state"]) == (202, asked, "queued")
        assert server.client.wait(f"/curations/{asked}", timeout=120)["state"] == "succeeded"
        assert client.post(f"/{asked}/retry").status_code == 409
        for path in ("/nonesuch", "/cu_nonesuch"):
            assert client.get(path).status_code == 404


def test_an_ingest_that_failed_is_tried_again_if_its_archive_is_there(server: Server, tmp_path: Path) -> None:
    def archives() -> set[Path]:
        return set((server.data / "objects" / "uploads").rglob("*"))

    others = archives()
    made = server.client.upload(write_tar(tmp_path / "text.tar", [("a.png", b"text")]), "text")["id"]
    with pytest.raises(tamis.TamisError, match="image"):
        server.client.wait(f"/datasets/{made}", timeout=60)
    with httpx.Client(base_url=f"{server.url}/api/v1/jobs", timeout=30) as client:
        assert client.post(f"/{made}/retry").status_code == 202
        with pytest.raises(tamis.TamisError, match="image"):
            server.client.wait(f"/datasets/{made}", timeout=60)
        for path in archives() - others:
            path.unlink()
        assert "Send it again" in client.post(f"/{made}/retry").json()["detail"]
