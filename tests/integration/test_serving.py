"""How `tamis serve` may be started."""

from pathlib import Path

import httpx
from harness import serving


def test_keys_are_asked_for_on_loopback_where_a_proxy_is_before_it(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--no-worker", "--keys") as server:
        for host in ("localhost", "tamis.example"):
            assert httpx.get(f"{server.url}/api/v1/datasets", headers={"host": host}).status_code == 401
