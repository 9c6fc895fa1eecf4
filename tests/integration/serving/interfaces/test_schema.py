"""The worker keeps to its `/openapi.json`: schemathesis sends what the document allows, and what it does not."""

import subprocess
import sys
from pathlib import Path

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def test_every_page_keeps_to_the_document(desk, tmp_path):
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            program, "run", f"{desk.served.client.base_url}/openapi.json", "--checks", ",".join(CHECKS),
            "--max-examples", "20", "--seed", "7", "--request-timeout", "30", "--suppress-health-check", "all",
        ],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-1_000:]
    assert "Operations:" in done.stdout
