"""`python verify_ledger.py ledger.jsonl`: checks an exported Undertone ledger with the standard library alone."""

import hashlib
import json
import sys
from pathlib import Path

HASHED = ("seq", "at", "kind", "task", "version", "actor", "reason", "payload", "previous_hash")


def canonical(value: object) -> str:
    """JSON with sorted keys and without spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


previous, number = "0" * 64, 0
for number, line in enumerate(Path(sys.argv[1]).read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
    row = json.loads(line)
    row["payload"] = canonical(row["payload"])
    digest = hashlib.sha256(canonical([row[name] for name in HASHED]).encode()).hexdigest()
    if (row["seq"], row["previous_hash"], row["hash"]) != (number, previous, digest):
        sys.exit(f"row {number} does not hold")
    previous = row["hash"]
sys.stdout.write(f"{number} rows, the chain is unbroken; the last hash is {previous}\n")
