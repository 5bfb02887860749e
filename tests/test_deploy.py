"""What deploys the service: image, compose, Kubernetes, monitoring, workflow; each name followed to what it names.

Tools that a machine may lack (kubectl, promtool, prometheus) are looked for in ``.venv-deploy`` and on the PATH.
Without one its tests are skipped, except in ``make deploy-check``, which brings them all and sets ``DEPLOY_CHECK``.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from dockerfile_parse import DockerfileParser
from starlette.routing import Mount, Route

from thesis_lib import paths
from thesis_lib.analysis import learner
from thesis_lib.config import load_config
from thesis_lib.serving import app, latency

DEPLOY = paths.ROOT / "deploy"
OVERLAYS = sorted(folder.name for folder in (DEPLOY / "kubernetes" / "overlays").iterdir())
SERVING, ADDED = ("cloud", "local", "secure"), ("gpu", "training")  # one of the first, then any of the others
UID, PORT = 1001, 8000
BROUGHT = {"maddpg-tls", "maddpg-api-token", "maddpg-lab"}  # Secrets that whoever deploys makes; none is in git
METRICS = {
    "maddpg_predictions_total": set(),
    "maddpg_prediction_duration_seconds_bucket": {"le"},
    "maddpg_prediction_duration_seconds_sum": set(),
    "maddpg_prediction_duration_seconds_count": set(),
    "maddpg_request_duration_seconds_bucket": {"le"},
    "maddpg_request_duration_seconds_sum": set(),
    "maddpg_request_duration_seconds_count": set(),
    "maddpg_inference_duration_seconds_bucket": {"le"},
    "maddpg_inference_duration_seconds_sum": set(),
    "maddpg_inference_duration_seconds_count": set(),
    "maddpg_prediction_errors_total": set(),
    "maddpg_requests_refused_total": {"status"},
    "maddpg_model_rejected_total": set(),
    "maddpg_model_load_timestamp": set(),
    "maddpg_model_info": {"agents", "observations", "actions", "version"},
    "process_start_time_seconds": set(),
    "uptime_seconds": set(),
}
FROM_PROMETHEUS = {"up": set()}  # not the service's own
Object = dict[str, Any]


def read(path: str) -> str:
    return (paths.ROOT / path).read_text(encoding="utf-8")


def read_yaml(path: str) -> Any:
    return yaml.safe_load(read(path))


def tool(name: str) -> str:
    """Where a program is, or a skip that says how to get it."""
    environment = paths.ROOT / ".venv-deploy"
    places = [str(environment / "bin"), str(environment / "prometheus" / "usr" / "bin"), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        message = f"{name} is not on the PATH; `make deploy-check` brings it"
        pytest.fail(message) if os.environ.get("DEPLOY_CHECK") else pytest.skip(message)
    return found


# ---------------------------------------------------------------- images


@cache
def stages() -> dict[str, list[tuple[str, str]]]:
    """The Dockerfile's instructions by stage, in order."""
    parser = DockerfileParser(path=str(paths.ROOT / "Dockerfile"), env_replace=False)
    found: dict[str, list[tuple[str, str]]] = {}
    for line in parser.structure:
        if line["instruction"] == "FROM":
            current = found.setdefault(line["value"].split()[-1], [])
        if line["instruction"] != "COMMENT":
            current.append((line["instruction"], line["value"]))
    return found


def values(stage: str, instruction: str) -> list[str]:
    return [value for name, value in stages()[stage] if name == instruction]


def copies(stage: str) -> list[tuple[str | None, list[str], str]]:
    """The stage's COPY lines: from which stage, what, whereto."""
    found = []
    for value in values(stage, "COPY"):
        words = value.split()
        source = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), None)
        names = [word for word in words if not word.startswith("--")]
        found.append((source, names[:-1], names[-1]))
    return found


def context(name: str) -> list[Path]:
    """The files that the build sees at or below a path of the repository."""
    return latency.context(paths.ROOT, name)


def test_images_run_as_the_user_and_with_the_health_check_of_the_contract():
    assert {"base", "serve-packages", "serve", "lab-packages", "lab"} == set(stages())
    for stage, path in (("serve", f":{PORT}/health"), ("lab", ":8888/api")):
        assert values(stage, "USER")[-1] == f"{UID}:{UID}"
        instructions = [name for name, _ in stages()[stage]]
        assert "RUN" not in instructions[instructions.index("USER") :]
        (check,) = values(stage, "HEALTHCHECK")
        assert "--interval=30s" in check and path in check
    assert f"useradd --uid {UID}" in values("base", "RUN")[0]
    assert values("serve", "EXPOSE") == [str(PORT)]


def test_base_images_have_a_tag_and_stages_build_on_each_other():
    for stage, lines in stages().items():
        image = lines[0][1].split()[0]
        assert image in stages() or re.fullmatch(r"[a-z/]+:[\w.-]*\d[\w.-]*", image), f"{stage}: {image}"
        for source, _, _ in copies(stage):
            assert source is None or source in stages()


def test_requirements_come_before_the_code():
    for stage in ("serve", "lab"):
        assert all(name.startswith("requirements") for _, names, _ in copies(f"{stage}-packages") for name in names)
        assert "--require-hashes" in values(f"{stage}-packages", "RUN")[0]
        first, *rest = copies(stage)
        assert first == (f"{stage}-packages", ["/venv"], "/venv")
        assert rest and all(source is None for source, _, _ in rest)


OUTSIDE = """models/broadcast/best.pt .git/config .venv/bin/python .env token deploy/compose.yaml checkpoints/x/best.pt
    results/thesis/kpis.csv
    results/thesis/runs/official/cooperative_maddpg/none/seed_1/kpis.csv thesis_lib/maddpg/__pycache__/replay.pyc"""


@pytest.mark.parametrize("name", OUTSIDE.split())
def test_what_stays_out_of_the_image(name):
    assert not latency.in_context(paths.ROOT, name)
    assert latency.in_context(paths.ROOT, "thesis_lib/paths.py")


# ---------------------------------------------------------------- Kubernetes


@cache
def _rendered(overlay: str) -> str:
    command = [tool("kubectl"), "kustomize", str(DEPLOY / "kubernetes" / "overlays" / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rendered(overlay: str) -> list[Object]:
    return [found for found in yaml.safe_load_all(_rendered(overlay)) if found]


def applied(overlay: str) -> list[Object]:
    """What is in the cluster with the overlay: those of ``ADDED`` hold their own objects alone."""
    return [*rendered("local"), *rendered(overlay)] if overlay in ADDED else rendered(overlay)


def named(objects: list[Object], kind: str) -> dict[str, Object]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def workloads(objects: list[Object]) -> list[Object]:
    return [found for found in objects if found["kind"] in {"Deployment", "Job"}]


def pod(workload: Object) -> Object:
    return workload["spec"]["template"]["spec"]


def containers(workload: Object) -> list[Object]:
    return [*pod(workload).get("initContainers", []), *pod(workload)["containers"]]


def selects(selector: Object, labels: Object) -> bool:
    return selector.items() <= labels.items()


def references(workload: Object) -> Iterator[tuple[str, str]]:
    """What the pods of a workload name: kind and name of each object."""
    spec = pod(workload)
    yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
    for container in containers(workload):
        for source in [*container.get("envFrom", []), *(v.get("valueFrom", {}) for v in container.get("env", []))]:
            for key, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
                for suffix in ("Ref", "KeyRef"):
                    if key + suffix in source:
                        yield kind, source[key + suffix]["name"]


PROBES = {"service": {"/health", "/ready"}, "lab": {"/api"}}  # container -> the paths that answer without a token


def dangling(objects: list[Object]) -> list[str]:
    """Every reference that leads nowhere, one line each."""
    wrong: list[str] = []

    def need(true: bool, line: str) -> None:
        if not true:
            wrong.append(line)

    def pods_of(selector: Object) -> list[Object]:
        return [w for w in workloads(objects) if selects(selector, w["spec"]["template"]["metadata"]["labels"])]

    def opens(workload: Object, port: Any) -> bool:
        ports = [found for container in containers(workload) for found in container.get("ports", [])]
        return any(port in (found["containerPort"], found.get("name")) for found in ports)

    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    need(len(names) == len(set(names)), "two objects of one name")
    for found in objects:
        kind, name, spec = found["kind"], found["metadata"]["name"], found.get("spec", {})
        if kind != "Namespace":
            need(found["metadata"].get("namespace") == "maddpg", f"{kind} {name} is outside the namespace")
        if kind in {"Deployment", "Job"}:
            labels = spec["template"]["metadata"]["labels"]
            if kind == "Deployment":
                need(selects(spec["selector"]["matchLabels"], labels), f"{name} does not select its own pods")
            for wanted in references(found):
                need(wanted in names or wanted[0] == "Secret" and wanted[1] in BROUGHT, f"{name}: no {wanted}")
            volumes = {volume["name"] for volume in pod(found).get("volumes", [])}
            mounted = {m["name"] for container in containers(found) for m in container.get("volumeMounts", [])}
            need(volumes == mounted, f"{name}: volumes {volumes}, mounted {mounted}")
            for spread in pod(found).get("topologySpreadConstraints", []):
                need(selects(spread["labelSelector"]["matchLabels"], labels), f"{name} spreads other pods")
            for container in containers(found):
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    if probe in container:
                        get = container[probe]["httpGet"]
                        need(opens(found, get["port"]), f"{name}: {probe} asks a closed port")
                        need(get["path"] in PROBES[container["name"]], f"{name}: {probe} asks {get['path']}")
        if kind == "Service":
            behind = pods_of(spec["selector"])
            need(len(behind) == 1, f"Service {name} selects {len(behind)} workloads")
            for port in spec["ports"]:
                need(all(opens(w, port["targetPort"]) for w in behind), f"Service {name}: closed port")
        if kind == "Ingress":
            hosts = {rule["host"] for rule in spec["rules"]}
            need(hosts == {host for tls in spec["tls"] for host in tls["hosts"]}, f"Ingress {name}: a host without TLS")
            need(all(tls["secretName"] in BROUGHT for tls in spec["tls"]), f"Ingress {name}: unknown secret")
            for path in [path for rule in spec["rules"] for path in rule["http"]["paths"]]:
                backend = path["backend"]["service"]
                service = named(objects, "Service").get(backend["name"])
                ports = [port["name"] for port in service["spec"]["ports"]] if service else []
                need(backend["port"]["name"] in ports, f"Ingress {name}: no service port {backend}")
        if kind == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            need((target["kind"], target["name"]) in names, f"HPA {name}: no {target['kind']} {target['name']}")
        if kind == "PodDisruptionBudget":
            need(len(pods_of(spec["selector"]["matchLabels"])) == 1, f"PodDisruptionBudget {name} selects nothing")
        if kind == "NetworkPolicy" and spec["podSelector"]:
            behind = pods_of(spec["podSelector"]["matchLabels"])
            need(len(behind) == 1, f"NetworkPolicy {name} selects nothing")
            for port in [port["port"] for rule in spec["ingress"] for port in rule["ports"]]:
                need(all(opens(w, port) for w in behind), f"NetworkPolicy {name} opens {port}, where nothing listens")
        if kind == "RoleBinding":
            need((spec := found["roleRef"]) and (spec["kind"], spec["name"]) in names, f"RoleBinding {name}: no role")
        if kind == "Role":
            for named_only in [r for rule in found["rules"] for r in rule.get("resourceNames", [])]:
                need(("Deployment", named_only) in names, f"Role {name} names no deployment")
        if kind == "ServiceMonitor":
            watched = [
                service
                for service in named(objects, "Service").values()
                if selects(spec["selector"]["matchLabels"], service["metadata"].get("labels", {}))
            ]
            need(len(watched) == 1, f"ServiceMonitor {name} watches {len(watched)} services")
            for endpoint in spec["endpoints"]:
                ports = [port["name"] for service in watched for port in service["spec"]["ports"]]
                need(endpoint["port"] in ports and endpoint["path"] == "/metrics", f"ServiceMonitor {name}: {endpoint}")
    return wrong


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_reference_leads_to_what_it_names(overlay):
    assert dangling(applied(overlay)) == []


BREAKS: dict[str, Callable[[dict[str, dict[str, Object]]], Any]] = {
    "selector": lambda o: o["Service"]["maddpg"]["spec"]["selector"].update({"app.kubernetes.io/name": "other"}),
    "target port": lambda o: o["Service"]["maddpg"]["spec"]["ports"][0].update(targetPort=8001),
    "config map": lambda o: containers(o["Deployment"]["maddpg"])[0]["envFrom"][0]["configMapRef"].update(name="x"),
    "claim": lambda o: o["PersistentVolumeClaim"]["maddpg-data"]["metadata"].update(name="x"),
    "secret": lambda o: pod(o["Deployment"]["maddpg"])["volumes"][0].update(secret={"secretName": "x"}),
    "account": lambda o: o["ServiceAccount"]["maddpg"]["metadata"].update(name="x"),
    "mount": lambda o: containers(o["Deployment"]["maddpg"])[0]["volumeMounts"][0].update(name="x"),
    "probe": lambda o: containers(o["Deployment"]["maddpg"])[0]["livenessProbe"]["httpGet"].update(path="/healthz"),
    "probe port": lambda o: containers(o["Deployment"]["maddpg"])[0]["readinessProbe"]["httpGet"].update(port="web"),
    "scaled": lambda o: o["HorizontalPodAutoscaler"]["maddpg"]["spec"]["scaleTargetRef"].update(name="x"),
    "budget": lambda o: o["PodDisruptionBudget"]["maddpg"]["spec"]["selector"]["matchLabels"].update(a="b"),
    "policy": lambda o: o["NetworkPolicy"]["prometheus-in"]["spec"]["podSelector"]["matchLabels"].update(a="b"),
    "policy port": lambda o: o["NetworkPolicy"]["prometheus-in"]["spec"]["ingress"][0]["ports"][0].update(port=80),
    "ingress": lambda o: o["Ingress"]["maddpg"]["spec"]["tls"][0].update(hosts=["other.example.org"]),
    "monitor": lambda o: o["ServiceMonitor"]["maddpg"]["spec"]["endpoints"][0].update(port="web"),
    "role": lambda o: o["RoleBinding"]["maddpg-operator"]["roleRef"].update(name="x"),
    "namespace": lambda o: o["Service"]["maddpg"]["metadata"].update(namespace="default"),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_reference_that_leads_nowhere_is_noticed(broken):
    objects = copy.deepcopy(rendered("secure"))
    BREAKS[broken]({found["kind"]: named(objects, found["kind"]) for found in objects})
    assert dangling(objects) != []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_restricted_and_bounded(overlay):
    objects = applied(overlay)
    assert not named(objects, "Secret"), "a secret in git"
    assert (
        named(objects, "Namespace")["maddpg"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "restricted"
    )
    for workload in workloads(objects):
        spec = pod(workload)
        user = spec["securityContext"]
        assert user["runAsNonRoot"] is True
        assert [user[key] for key in ("runAsUser", "runAsGroup", "fsGroup")] == [UID] * 3
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in containers(workload):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert container["image"] in {"maddpg-serve:0.1.0", "maddpg-lab:0.1.0"}
            assert f"--tag {container['image']} " in read("Dockerfile")


@pytest.mark.parametrize("serving", SERVING)
def test_training_and_the_lab_change_nothing_that_serves(serving):
    assert {*SERVING, *ADDED} == set(OVERLAYS)
    for before, after in itertools.combinations((serving, *ADDED), 2):
        there = {(found["kind"], found["metadata"]["name"]): found for found in rendered(before)}
        for found in rendered(after):
            kind, name = found["kind"], found["metadata"]["name"]
            assert there.get((kind, name), found) == found, f"{after} changes {kind} {name} of {before}"


@pytest.mark.parametrize("overlay", SERVING)
def test_what_each_variant_has_of_the_contract(overlay):
    objects = rendered(overlay)
    deployment = named(objects, "Deployment")["maddpg"]
    assert "replicas" not in deployment["spec"], "the autoscaler's"
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= containers(deployment)[0].keys()
    service = named(objects, "Service")["maddpg"]["spec"]
    assert (service["ports"][0]["port"], service["ports"][0]["targetPort"]) == (80, PORT)
    assert service["type"] == ("NodePort" if overlay == "local" else "ClusterIP")
    scaling = named(objects, "HorizontalPodAutoscaler")["maddpg"]["spec"]
    assert (scaling["minReplicas"], scaling["maxReplicas"]) == (2, 10)
    assert scaling["metrics"][0]["resource"] == {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70},
    }  # fmt: skip
    policies = named(objects, "NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert {p["port"] for p in policies["dns-out"]["spec"]["egress"][0]["ports"]} == {53}
    assert all(name == "dns-out" or "egress" not in policy["spec"] for name, policy in policies.items())


@pytest.mark.parametrize("overlay", SERVING)
def test_a_browser_stays_with_the_pod_that_holds_its_episode(overlay):
    objects = rendered(overlay)
    for service in named(objects, "Service").values():
        assert service["spec"]["sessionAffinity"] == "ClientIP"
    for ingress in named(objects, "Ingress").values():  # the controller asks the pods, not the Service
        assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/affinity"] == "cookie"


def test_each_overlay_adds_what_it_is_for():
    local, cloud, secure = rendered("local"), rendered("cloud"), rendered("secure")
    assert named(local, "Service")["maddpg"]["spec"]["ports"][0]["nodePort"] == 30080
    assert named(local, "PersistentVolumeClaim")["maddpg-data"]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert not named(local, "Ingress") and not named(cloud, "Ingress")
    balancer = named(cloud, "Service")["maddpg-loadbalancer"]["spec"]
    allowed = named(cloud, "NetworkPolicy")["loadbalancer-in"]["spec"]["ingress"][0]["from"]
    assert balancer["type"] == "LoadBalancer"
    assert named(cloud, "Service")["maddpg-loadbalancer"]["metadata"]["annotations"] == {
        "networking.gke.io/load-balancer-type": "Internal",
        "service.beta.kubernetes.io/aws-load-balancer-internal": "true",
        "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal",
        "service.beta.kubernetes.io/azure-load-balancer-internal": "true",
    }
    assert balancer["loadBalancerSourceRanges"] == [source["ipBlock"]["cidr"] for source in allowed]
    assert named(secure, "Ingress")["maddpg"]["spec"]["tls"]
    # Everything but /metrics, which asks for no token and is scraped inside the cluster.
    (rule,) = named(secure, "Ingress")["maddpg"]["spec"]["rules"]
    public = {(path["path"], path["pathType"]) for path in rule["http"]["paths"]}
    served = {route.path for route in app.create_app(app.Settings()).routes if isinstance(route, Route | Mount)}
    assert {path for path in served if (path, "Exact") not in public and (path, "Prefix") not in public} == {
        "/metrics",
        "/simulate/reset",
        "/simulate/step",
    }
    assert {path for path, kind in public if kind == "Prefix"} == {"/simulate", "/static"}
    nginx = named(secure, "NetworkPolicy")["ingress-nginx-in"]["spec"]["ingress"][0]["from"][0]
    assert nginx == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
    assert {"ServiceMonitor", "PrometheusRule"} <= {found["kind"] for found in secure}

    deployment = named(secure, "Deployment")["maddpg"]
    (config,) = named(secure, "ConfigMap").values()
    token = Path(config["data"]["THESIS_TOKEN_FILE"])
    (mount,) = [m for m in containers(deployment)[0]["volumeMounts"] if m["mountPath"] == token.parent.as_posix()]
    (volume,) = [v for v in pod(deployment)["volumes"] if v["name"] == mount["name"]]
    assert volume["secret"]["secretName"] == "maddpg-api-token"
    assert [item["path"] for item in volume["secret"]["items"]] == [token.name]

    lab = containers(named(rendered("gpu"), "Deployment")["maddpg-lab"])[-1]
    assert lab["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert not any("nvidia" in _rendered(serving) for serving in SERVING)


def test_the_training_job_runs_every_seed_of_the_thesis():
    job, fill = (named(rendered("training"), "Job")[name] for name in ("maddpg-training", "maddpg-fill"))
    (container,) = containers(job)
    config = load_config("thesis")
    assert job["spec"]["completionMode"] == "Indexed" and job["spec"]["suspend"] is True
    data = {"name": "data", "mountPath": "/data"}
    assert data | {"readOnly": True} in container["volumeMounts"] and data in containers(fill)[0]["volumeMounts"]
    assert {"name": "CITYLEARN_DATASETS", "value": "/data"} in container["env"]
    assert list(range(job["spec"]["completions"])) == list(config.seeds)
    assert container["command"] == ["python", "-m", learner.__name__]
    variant, *options = container["args"]
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert variant in config.variants
    assert given == {"--profile": "thesis", "--edition": "official", "--seed": "$(JOB_COMPLETION_INDEX)"}
    assert "JOB_COMPLETION_INDEX" in {variable["name"] for variable in container["env"]}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    app = values("base", "WORKDIR")[0]
    for folder in (paths.results("thesis"), paths.checkpoints("thesis", "official", "x", "x", 0)):
        assert f"{app}/{folder.relative_to(paths.ROOT).parts[0]}" in mounted


# ---------------------------------------------------------------- compose and monitoring


def compose() -> Object:
    return read_yaml("deploy/compose.yaml")


def test_compose_publishes_both_ports_and_mounts_files_that_are_there():
    services = compose()["services"]
    # On this machine only, unless told otherwise; the token, if one is set, from whoever starts it.
    here = "${MADDPG_ADDRESS:-127.0.0.1}"
    assert services["service"]["ports"] == [f"{here}:8000:{PORT}", f"{here}:8080:{PORT}"]
    assert services["service"]["environment"]["THESIS_TOKEN"] is None
    assert services["service"]["build"] == {"context": "..", "target": "serve"}
    assert (DEPLOY / services["service"]["build"]["context"] / "Dockerfile").resolve() == paths.ROOT / "Dockerfile"
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), f"{name} has no version"
        assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
        assert set(service.get("depends_on", [])) <= services.keys()
        for volume in service["volumes"]:
            source = re.sub(r"^\$\{\w+:-(\w+)\}", r"\1", volume).split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in compose()["volumes"], volume
    assert "depends_on" not in services["prometheus"], "a service that does not come up would raise no alert"
    assert services["service"]["image"] == containers(named(rendered("local"), "Deployment")["maddpg"])[0]["image"]
    assert ":?" in services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"], "a password in git"


def test_prometheus_scrapes_the_service_and_grafana_reads_prometheus():
    services = compose()["services"]
    settings = read_yaml("deploy/monitoring/prometheus.yaml")
    (job,) = settings["scrape_configs"]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert host in services and int(port) == PORT and "metrics_path" not in job
    assert job["job_name"] == named(rendered("secure"), "Service")["maddpg"]["metadata"]["name"]  # the operator's label
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in services["prometheus"]["volumes"]}
    for rules in settings["rule_files"]:
        assert f"/etc/prometheus/{rules}" in mounted
    (source,) = read_yaml("deploy/monitoring/grafana/datasource.yaml")["datasources"]
    host, port = source["url"].removeprefix("http://").split(":")
    assert host in services and port == "9090"
    (provider,) = read_yaml("deploy/monitoring/grafana/dashboards.yaml")["providers"]
    assert any(v.split(":")[1].startswith(provider["options"]["path"]) for v in services["grafana"]["volumes"])
    board = json.loads(read("deploy/monitoring/grafana/dashboard.json"))
    for panel in board["panels"]:
        assert all(part["datasource"]["uid"] == source["uid"] for part in [panel, *panel["targets"]])
        assert " · " in panel["title"], "a title in English and Spanish"
        if panel["type"] == "stat":  # what is, not what was last seen within the hour shown
            assert all(target["instant"] is True for target in panel["targets"])


def rules() -> list[Object]:
    (group,) = read_yaml("deploy/monitoring/alerts.yaml")["groups"]
    return group["rules"]


def expressions() -> list[str]:
    board = json.loads(read("deploy/monitoring/grafana/dashboard.json"))
    panels = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [*(rule["expr"] for rule in rules()), *panels]


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """The metrics of an expression, and the labels that it groups by or matches with."""
    metrics: set[str] = set()
    labels: set[str] = set()

    def visit(part: promql_parser.Expr) -> None:
        if isinstance(part, promql_parser.MatrixSelector):
            part = part.vector_selector
        if isinstance(part, promql_parser.VectorSelector):
            metrics.add(part.name)
            labels.update(matcher.name for matcher in part.matchers.matchers)
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            labels.update(part.modifier.labels)

    promql_parser.walk(promql_parser.parse(expression.replace("$__rate_interval", "5m")), visit)
    return metrics, labels


@pytest.mark.parametrize("expression", expressions())
def test_expressions_ask_for_metrics_and_labels_that_exist(expression):
    known = METRICS | FROM_PROMETHEUS
    metrics, labels = names_in(expression)
    assert metrics and metrics <= known.keys()
    assert labels <= {"job", "instance"}.union(*(known[name] for name in metrics))


def test_alerts_are_the_same_in_compose_and_in_kubernetes():
    (group,) = named(rendered("secure"), "PrometheusRule")["maddpg"]["spec"]["groups"]
    assert group["rules"] == rules()
    assert all(rule["labels"]["severity"] in {"critical", "warning"} for rule in rules())
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in rules())


def test_each_alert_fires_on_what_it_is_for():
    folder = DEPLOY / "monitoring"
    for arguments in (["check", "config", "prometheus.yaml"], ["test", "rules", "alerts_test.yaml"]):
        answer = subprocess.run([tool("promtool"), *arguments], cwd=folder, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    silent, _, *fired = read_yaml("deploy/monitoring/alerts_test.yaml")["tests"]
    fires = {test["alertname"] for case in fired for test in case["alert_rule_test"] if test["exp_alerts"]}
    assert fires == {test["alertname"] for test in silent["alert_rule_test"]} == {rule["alert"] for rule in rules()}


# ---------------------------------------------------------------- workflow and page


def steps(job: str) -> list[Object]:
    return read_yaml(".github/workflows/ci.yml")["jobs"][job]["steps"]


def test_the_workflow_checks_what_it_promises_with_pinned_actions():
    workflow = read_yaml(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    every = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for step in every:
        if "uses" in step:
            assert re.search(r"@(v\d+\.\d+\.\d+|[0-9a-f]{40})$", step["uses"]), step["uses"]
    commands = "\n".join(step.get("run", "") for step in every)
    for command in (".ci/run", "make lint", "make deploy-check", "pip_audit"):
        assert command in commands
    scan = next(
        step["with"] for step in steps("image") if "trivy" in step.get("uses", "") and "exit-code" in step["with"]
    )
    assert (str(scan["exit-code"]), scan["severity"]) == ("1", "CRITICAL,HIGH")
    assert any(step.get("with", {}).get("format") == "cyclonedx" for step in steps("image")), "no SBOM"
    assert "requirements-torch.txt" in commands
    (size,) = [step["run"] for step in steps("image") if "docker image inspect" in step.get("run", "")]
    assert "-le 350000000" in size and "{{.Size}}" in size
    (checked,) = [step for step in steps("test") if step.get("run") == ".ci/run"]
    assert checked["env"] == {"DASHBOARD_CHECK": "1"}
    weekly = workflow["jobs"]["weekly"]
    assert {"test-slow", "fuzz", "soak"} == set(weekly["strategy"]["matrix"]["target"]) and "schedule" in weekly["if"]
    assert "make ${{ matrix.target }}" in commands
    assert {f"{target}:" for target in weekly["strategy"]["matrix"]["target"]} <= set(read("Makefile").split())
    build = next(step["with"] for step in steps("image") if "build-push" in step.get("uses", ""))
    assert build["target"] == "serve" and build["push"] is False


def test_the_page_names_files_and_tests_that_are_there():
    page = read("docs/deployment.md")
    for name in re.findall(
        r"`((?:deploy|docs|\.github|thesis_lib|benchmarks)/[\w./-]+|Dockerfile|\.dockerignore)`", page
    ):
        assert (paths.ROOT / name).exists(), name
    source = "".join(file.read_text(encoding="utf-8") for file in (paths.ROOT / "tests").glob("test_*.py"))
    tests = re.findall(r"`(test_\w+)`", page)
    assert len(tests) > 10
    for name in tests:
        assert f"def {name}(" in source, name
    for secret in BROUGHT:
        assert re.search(rf"create secret (generic|tls) {secret}\b", page), (
            f"the page does not say how to make {secret}"
        )
    assert set(OVERLAYS) == set(re.findall(r"deploy/kubernetes/overlays/(\w+)", page))
