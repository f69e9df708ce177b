"""`make described`: requests that the API's own description allows, and near ones that it forbids.

No answer is a 5xx, or one that the description does not know. Pytest finds this file only when it is named.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness import serving

EXAMPLES = os.environ.get("DESCRIBED_EXAMPLES", "200")
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
# Streams that do not end, and bodies of the tus protocol, which tests/integration/test_uploads.py knows better.
LEFT_OUT = r"/events$|/uploads/\{upload_id\}$"


def test_every_answer_is_one_that_the_description_knows(tmp_path: Path) -> None:
    beside = str(Path(sys.executable).with_name("schemathesis"))
    program = beside if Path(beside).exists() else shutil.which("schemathesis")
    assert program, "schemathesis is one of the dev dependencies"
    with serving(tmp_path / "data", "--no-worker") as server:
        command = [program, "run", f"{server.url}/api/openapi.json", "--max-examples", EXAMPLES]
        chosen = ["--checks", ",".join(CHECKS), "--exclude-path-regex", LEFT_OUT, "--continue-on-failure"]
        ended = subprocess.run([*command, *chosen, "--phases", "examples,coverage,fuzzing"])
        assert ended.returncode == 0
        assert "failed" not in server.log.read_text()
