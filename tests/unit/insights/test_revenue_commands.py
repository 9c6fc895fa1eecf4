"""The commands: exit codes, data to standard output, talk to standard error."""

import json
import os
import subprocess
import sys
from pathlib import Path


def undertone(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "insights", *arguments],
        env=os.environ | {"UNDERTONE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_answers_come_in_and_go_out_as_files(tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    answers.write_text("id,kind,score,when,customer_id\n1,nps,9,2026-11-03,c1\n2,nps,,2026-11-03,c2\n")
    done = undertone("surveys", "import", str(answers), "--column", "time=when", "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["left_out"] == {"no score": 1}
    done = undertone("export", str(tmp_path / "bi"), "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {item["view"]: item["rows"] for item in json.loads(done.stdout)}["surveys"] == 1
    assert "customer ids" in done.stderr
    done = undertone("revenue", home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(":")[0] for line in done.stderr.splitlines()[-3:]] == ["expected", "found", "next step"]
