"""API keys, a proxy's word and rates, over HTTP."""

import json
import subprocess
import sys

import httpx
import pytest

from serving import api_keys

OPEN = ("/healthz", "/readyz", "/ping", "/health", "/version", "/v2/health/live", "/v2/health/ready")
CLOSED = ("/metrics", "/docs", "/openapi.json", "/v2", "/v2/models/sentiment")


def test_with_a_key_every_page_but_the_probes_asks_for_it(settings, serve, shelf):
    shelf.publish()
    key = api_keys.create(api_keys.path_of(settings), "shop")
    with serve(settings) as served:
        served.wait_version(1)
        bearer = {"Authorization": f"Bearer {key}"}
        for path in OPEN:
            assert served.client.get(path).status_code == 200, path
        for path in CLOSED:
            for method in ("GET", "HEAD"):
                refused = served.client.request(method, path)
                assert refused.status_code == 401, path
                assert refused.headers["WWW-Authenticate"].startswith("Bearer")
            assert served.client.get(path, headers=bearer).status_code == 200, path
        body = {"messages": [{"text": "good"}]}
        refused = served.client.post("/v1/score", json=body)
        assert refused.status_code == 401
        assert set(refused.json()["error"]) == {"expected", "found", "next_step"}
        assert served.client.post("/v1/score", json=body, headers={"X-API-Key": key}).status_code == 200
        mlflow = served.client.post("/invocations", json={"inputs": ["good"]})
        assert (mlflow.status_code, mlflow.json()["error_code"]) == (401, "UNAUTHENTICATED")
        oip = served.client.post("/v2/models/sentiment/infer", json={})
        assert (oip.status_code, type(oip.json()["error"])) == (401, str)
        page = served.client.get("/metrics", headers=bearer).text
        assert 'undertone_caller_requests_total{caller="shop"}' in page
        assert "undertone_queue_seconds_count" in page


def test_a_key_counts_and_ends_without_a_restart(settings, serve, until):
    path = api_keys.path_of(settings)
    with serve(settings) as served:
        assert served.client.get("/v2").status_code == 200
        key = api_keys.create(path, "shop")
        until(lambda: served.client.get("/v2").status_code == 401, "a key is asked for", 5)
        assert served.client.get("/v2", headers={"X-API-Key": key}).status_code == 200
        api_keys.revoke(path, "shop")
        until(lambda: served.client.get("/v2", headers={"X-API-Key": key}).status_code == 401, "it ends", 5)


def test_too_many_requests_are_told_when_to_come_again(settings, serve):
    path = api_keys.path_of(settings)
    key, other = api_keys.create(path, "shop", "3/minute"), api_keys.create(path, "bot")
    with serve(settings) as served:
        codes = [served.client.get("/v2", headers={"X-API-Key": key}).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        refused = served.client.get("/v1/score", headers={"X-API-Key": key})
        assert refused.status_code == 405
        refused = served.client.get("/v2", headers={"X-API-Key": key})
        assert 1 <= int(refused.headers["Retry-After"]) <= 120
        assert "3/minute" in refused.json()["error"]
        assert served.client.get("/v2", headers={"X-API-Key": other}).status_code == 200


@pytest.mark.parametrize(("trusted", "status"), [(("127.0.0.1",), 200), (("10.0.0.0/8",), 401)])
def test_a_proxy_is_known_by_its_own_address(settings, serve, trusted, status):
    there = settings.model_copy(update={"proxy_identity_header": "X-Forwarded-User", "proxy_addresses": trusted})
    with serve(there) as served:
        named = {"X-Forwarded-User": "ann"}
        assert served.client.get("/v2", headers=named).status_code == status
        assert served.client.get("/v2").status_code == 401


def test_the_command_line_makes_lists_and_revokes_keys(settings):
    environment = settings.environment()

    def run(*words, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", "apikeys", *words], capture_output=True, text=True, env=environment
        )
        assert done.returncode == code, done.stderr
        return done

    made = run("create", "shop", "--rate", "5/second")
    key = made.stdout.strip()
    assert key.startswith("undertone_")
    assert key not in made.stderr
    assert "not shown again" in made.stderr
    (row,) = json.loads(run("list", "--json").stdout)
    assert (row["name"], row["counts"], row["rate"]) == ("shop", "yes", "5/second")
    assert key not in json.dumps(row)
    assert "expected" in run("create", "shop", code=2).stderr
    run("revoke", "shop")
    assert json.loads(run("list", "--json").stdout)[0]["counts"].startswith("revoked")
    assert "keys of nobody" in run("revoke", "shop", code=2).stderr


def test_nobody_claims_to_be_a_proxy(ready, process, tmp_path):
    there = ready.model_copy(update={"proxy_identity_header": "X-Forwarded-User", "proxy_addresses": ("10.9.9.9",)})
    with process(there, tmp_path / "log") as worker:
        claimed = {"X-Forwarded-For": "10.9.9.9", "X-Forwarded-User": "ann"}
        assert httpx.get(f"{worker.url}/v2", headers=claimed).status_code == 401


def test_an_open_door_is_told_of(ready, process, tmp_path):
    with process(ready.model_copy(update={"host": "0.0.0.0"}), tmp_path / "log"):
        assert "undertone apikeys create NAME" in (tmp_path / "log").read_text()
