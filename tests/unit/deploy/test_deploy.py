"""What stands in deploy/ agrees with the code: settings, ports, paths, metrics, times, versions.

The formats are checked by their own validators (`make deploy-check`); these tests need none.
"""

import ast
import importlib.metadata
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.__main__ import DRAIN_S
from undertone.settings import Settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.suffix in {".yaml", ".sql"} or "file" in path.name)
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "serving").rglob("*.py")))
#: Seconds in which the recorder drains what it can: `Recorder.stop`.
WRITING_DOWN_S = 3
OWN = ("undertone", "serving")


def read(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def objects(name: str) -> dict[str, dict[str, Any]]:
    """The Kubernetes objects of a file by kind; the last of a kind counts."""
    return {found["kind"]: found for found in yaml.safe_load_all(read(f"kubernetes/{name}"))}


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = objects("workers.yaml")["StatefulSet"]["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    found: dict[str, Any] = pod()["containers"][0]
    return found


def compose() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(read("compose.yaml"))
    return made


def stages() -> dict[str, list[list[str]]]:
    """The Containerfile's instructions by stage, each as its words."""
    found: dict[str, list[list[str]]] = {}
    text = re.sub(r"(?m)^\s*#.*\n", "", read("Containerfile")).replace("\\\n", " ")
    stage = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        words = shlex.split(line.replace("[", " ").replace("]", " ").replace('",', '" '))
        if words[0] == "FROM":
            stage = words[3]
        found.setdefault(stage, []).append(words)
    return found


def variables(stage: str) -> dict[str, str]:
    found = next(words[1:] for words in stages()[stage] if words[0] == "ENV")
    return dict(word.split("=", 1) for word in found)


def pins(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of every package in a lock file."""
    found = {}
    for block in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8")):
        if match := re.match(r"([\w.-]+)(?:\[[^]]*\])?==(\S+)", block):
            found[match[1].lower()] = (match[2], frozenset(re.findall(r"sha256:(\w+)", block)))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_that_is_named_is_one(path):
    named = set(re.findall(r"\bUNDERTONE_([A-Z_]+)\b", re.sub(r"(?m)#.*$", "", path.read_text(encoding="utf-8"))))
    assert named <= {name.upper() for name in Settings.model_fields}


def test_the_settings_take_the_values_that_are_given(monkeypatch):
    given = variables("serving") | compose()["services"]["worker-1"]["environment"]
    for name, value in given.items():
        if name.startswith("UNDERTONE_"):
            monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.state_dir == Path("/state")
    assert (settings.host, settings.port) == ("0.0.0.0", 8400)
    assert settings.trusted_dir == Path("/keys/trusted")
    assert settings.trainers_dir == Path("/keys/trainers")
    assert settings.profile == "team"


@pytest.mark.parametrize("name", ["worker-1", "worker-2"])
def test_an_engine_uses_the_cores_it_was_given(name):
    worker = compose()["services"][name]
    assert int(worker["environment"]["UNDERTONE_ENGINE_THREADS"]) == worker["cpus"]
    threads = next(item["value"] for item in container()["env"] if item["name"] == "UNDERTONE_ENGINE_THREADS")
    assert threads == container()["resources"]["limits"]["cpu"] == container()["resources"]["requests"]["cpu"]


def test_workers_have_time_to_finish_and_write_down():
    pause = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod()["terminationGracePeriodSeconds"] >= pause + DRAIN_S + WRITING_DOWN_S
    for name in ("worker-1", "worker-2"):
        assert int(compose()["services"][name]["stop_grace_period"].removesuffix("s")) >= DRAIN_S + WRITING_DOWN_S


def test_ports_agree():
    port = int(variables("serving")["UNDERTONE_PORT"])
    assert ["EXPOSE", str(port)] in stages()["serving"]
    assert container()["ports"] == [{"name": "http", "containerPort": port}]
    for service in yaml.safe_load_all(read("kubernetes/services.yaml")):
        assert [(item["port"], item["targetPort"]) for item in service["spec"]["ports"]] == [(port, "http")]
    ingress = objects("network.yaml")["NetworkPolicy"]["spec"]["ingress"][0]
    assert ingress["ports"] == [{"protocol": "TCP", "port": port}]
    for name in ("Caddyfile", "prometheus.yaml"):
        assert re.findall(r"(worker-\d):(\d+)", read(name)) == [("worker-1", str(port)), ("worker-2", str(port))]
    assert f"127.0.0.1:{port}/healthz" in read("Containerfile")


def test_the_paths_that_are_asked_for_exist():
    probes = {container()[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    proxied = re.search(r"@api path (.+)", read("Caddyfile"))
    health = re.search(r"health_uri (\S+)", read("Caddyfile"))
    assert proxied
    assert health
    monitor = objects("optional/service-monitor.yaml")["ServiceMonitor"]["spec"]["endpoints"][0]["path"]
    for path in probes | {health[1], monitor} | {word for word in proxied[1].split() if "*" not in word}:
        assert f'"{path}"' in SOURCES or path in {"/docs", "/openapi.json"}, path
    for prefix in (word.removesuffix("*") for word in proxied[1].split() if "*" in word):
        assert f'"{prefix}' in SOURCES
    assert not {"/metrics", "/healthz", "/readyz"} & set(proxied[1].split()), "these are asked from inside only"


def test_metrics_that_are_named_exist():
    for path in FILES:
        for name in re.findall(r"\bundertone_[a-z_]+", re.sub(r"(?m)^\s*#.*$", "", path.read_text(encoding="utf-8"))):
            assert f'"{name.removesuffix("_total")}"' in SOURCES, f"{name} in {path.name}"


def test_the_proxy_takes_bodies_as_large_as_the_worker():
    limit = Settings.model_fields["max_body_bytes"].default
    assert f"max_size {limit // 1_000_000}MB" in read("Caddyfile")
    annotations = objects("optional/ingress.yaml")["Ingress"]["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == str(limit)


def test_workers_write_to_their_state_and_nowhere_else():
    mounts = {mount["mountPath"]: mount for mount in container()["volumeMounts"]}
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert set(mounts) == {"/state", "/tmp", "/keys"}
    assert mounts["/keys"]["readOnly"] is True
    states = []
    for name in ("worker-1", "worker-2"):
        worker = compose()["services"][name]
        assert worker["read_only"] is True
        assert "./keys:/keys:ro" in worker["volumes"]
        states += [volume.split(":")[0] for volume in worker["volumes"] if volume.endswith(":/state")]
    assert len(set(states)) == 2
    user = str(pod()["securityContext"]["runAsUser"])
    assert ["USER", f"{user}:{user}"] in stages()["serving"]


def test_no_service_can_overwrite_a_setting():
    """Kubernetes tells every container of each Service: NAME_PORT=tcp://…, and `UNDERTONE_PORT` is a setting."""
    assert pod()["enableServiceLinks"] is False
    # a user id without a name has no login name, and `actor` defaults to it
    assert variables("serving")["UNDERTONE_ACTOR"]


def test_the_autoscalers_scale_the_workers():
    workers = objects("workers.yaml")["StatefulSet"]["metadata"]["name"]
    assert "replicas" not in objects("workers.yaml")["StatefulSet"]["spec"]
    scaler = objects("autoscaling.yaml")["HorizontalPodAutoscaler"]["spec"]
    keda = objects("optional/keda.yaml")["ScaledObject"]["spec"]
    for target in (scaler["scaleTargetRef"], keda["scaleTargetRef"]):
        assert (target["apiVersion"], target["kind"], target["name"]) == ("apps/v1", "StatefulSet", workers)
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (scaler["minReplicas"], scaler["maxReplicas"])
    assert keda["triggers"][0]["metadata"]["threshold"] == scaler["metrics"][0]["pods"]["target"]["averageValue"]
    adapter = yaml.safe_load(read("kubernetes/optional/prometheus-adapter-values.yaml"))
    assert adapter["rules"]["custom"][0]["name"]["as"] == scaler["metrics"][0]["pods"]["metric"]["name"]


def test_everything_selects_the_workers():
    labels = objects("workers.yaml")["StatefulSet"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        objects("workers.yaml")["StatefulSet"]["spec"]["selector"]["matchLabels"],
        objects("disruption.yaml")["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects("network.yaml")["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(service["spec"]["selector"] for service in yaml.safe_load_all(read("kubernetes/services.yaml"))),
        *(rule["labelSelector"]["matchLabels"] for rule in pod()["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert selector.items() <= labels
    resources = yaml.safe_load(read("kubernetes/kustomization.yaml"))["resources"]
    assert {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")} == {*resources, "kustomization.yaml"}


def test_files_that_are_named_exist():
    for words in (words for stage in stages().values() for words in stage if words[0] == "COPY"):
        if not words[1].startswith("--from"):
            assert (ROOT / words[1]).exists(), words
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("./") and not volume.startswith("./keys:"):
                assert (DEPLOY / volume.split(":")[0]).is_file(), volume
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
            assert service["build"]["target"] in stages()


def test_images_carry_the_products_version():
    version = re.search(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert version
    tags = {
        service["image"].partition(":")[2]
        for service in compose()["services"].values()
        if service["image"].startswith("undertone-")
    }
    image = yaml.safe_load(read("kubernetes/kustomization.yaml"))["images"][0]
    assert tags == {version[1]} == {image["newTag"]} == {container()["image"].partition(":")[2]}
    assert container()["image"].partition(":")[0] == image["name"]


@pytest.mark.parametrize("name", ["serving", "mlflow"])
def test_an_images_lock_is_a_part_of_the_lock(name):
    whole, part = pins(ROOT / "requirements.lock"), pins(DEPLOY / f"{name}.lock")
    assert part
    assert {package: pin for package, pin in part.items() if whole.get(package) != pin} == {}, "run: make lock"
    assert not {"torch", "transformers", "evidently", "prefect"} & set(part)


def test_the_serving_image_holds_all_that_the_worker_imports():
    wanted = {re.split(r"[\[;]", line)[0].strip() for line in read("serving.in").splitlines() if line[:1].isalpha()}
    assert wanted <= set(pins(DEPLOY / "serving.lock"))
    owners = importlib.metadata.packages_distributions() | {"mlflow": ["mlflow-skinny"]}
    for module in imported():
        assert {owner.lower().replace("_", "-") for owner in owners[module]} & wanted, module


def imported() -> set[str]:
    """Third-party modules that the worker's code names, and the code of `undertone` that it reaches."""
    waiting = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "serving").rglob("*.py")]
    seen, found = set[str](), set[str]()
    while waiting:
        module = waiting.pop()
        path = ROOT / f"{module.replace('.', '/')}.py"
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            waiting += [name for name in names if name.partition(".")[0] in OWN]
            found |= {name.partition(".")[0] for name in names} - {*OWN, *sys.stdlib_module_names}
    return found
