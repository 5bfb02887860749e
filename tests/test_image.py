"""The serve image without a container engine: the files that its Dockerfile copies, started as it says.

The folder holds what the COPY lines bring and the packages of ``requirements-serve.lock`` alone, nobody may write in
it, and the process is user 1001 where the tests run as root. Prometheus then scrapes that very process.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_deploy as deploy
import yaml
from packaging.requirements import Requirement
from prometheus_client.parser import text_string_to_metric_families
from served import free_port

from thesis_lib import paths


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(what: str, url: str, process: subprocess.Popen, log: Path) -> None:
    """Wait for an answer 200, a minute at most; with the log if the process is gone."""
    for _ in range(600):
        assert process.poll() is None, f"{what} ended: {log.read_text()}"
        try:
            if get(url)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail(f"{what} does not answer at {url}: {log.read_text()}")


def packages(lock: str, folder: Path) -> None:
    """The packages of a lock, and no others, as links to those of this environment."""
    folder.mkdir()
    for line in re.findall(r"^[\w.-]+==[^\\\n]+", deploy.read(lock), re.MULTILINE):
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        found = importlib.metadata.distribution(wanted.name)
        assert found.version in wanted.specifier, f"{wanted.name} is {found.version} here, and {line} in {lock}"
        for top in {file.parts[0] for file in found.files or [] if not file.parts[0].startswith(("..", "__pycache__"))}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(found.locate_file(top))))


def layout(stage: str, root: Path) -> Path:
    """The stage's working directory with what its COPY lines bring from the repository, unwritable."""
    work = root / deploy.values("base", "WORKDIR")[0].lstrip("/")
    for source, names, target in deploy.copies(stage):
        for name in names if source is None else []:
            for file in deploy.context(name):
                inside = file.relative_to(paths.ROOT / name)
                place = work / target / inside
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
    for place in [root, *root.rglob("*")]:
        place.chmod(0o555 if place.is_dir() else 0o444)
    return work


def as_user() -> list[str]:
    """What makes root's child the image's user: it may read this interpreter, wherever it lies, and write nothing."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return []
    caps = "-all,+dac_read_search"
    return ["setpriv", f"--reuid={deploy.UID}", f"--regid={deploy.UID}", "--clear-groups", "--no-new-privs",
            f"--inh-caps={caps}", f"--ambient-caps={caps.replace('-all,', '')}", f"--bounding-set={caps}"]  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The service as its image starts it: its address, its folder, its process."""
    folder = tmp_path_factory.mktemp("image")
    packages("requirements-serve.lock", folder / "packages")
    work = layout("serve", folder / "root")
    (command,) = deploy.values("serve", "CMD")
    python, *arguments = json.loads(command)
    assert python == "python"
    port = free_port()
    of_image = [
        word.split("=", 1)
        for stage in ("base", "serve")
        for line in deploy.values(stage, "ENV")
        for word in line.split()
    ]
    environment = dict(of_image) | {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder / "packages"),
        "THESIS_PORT": str(port),
        "HOME": "/nonexistent",
    }
    log = folder / "service.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*as_user(), sys.executable, "-S", *arguments], cwd=work, env=environment, stdout=output, stderr=output
        )
    try:
        until("the service", f"http://127.0.0.1:{port}/health", process, log)
        yield {"port": port, "url": f"http://127.0.0.1:{port}", "work": work, "process": process, "log": log}
    finally:
        process.terminate()
        process.wait(30)


def test_everything_copied_is_there_and_goes_through_dockerignore():
    for stage in deploy.stages():
        for source, names, _ in deploy.copies(stage):
            for name in names if source is None else []:
                if name != ".":
                    assert deploy.context(name), (
                        f"{stage} copies {name}: it is not there, or .dockerignore keeps it out"
                    )


def test_the_image_starts_from_its_own_files_as_its_user(service):
    status = Path(f"/proc/{service['process'].pid}/status")
    if status.exists():
        user = re.search(r"^Uid:\s+(\d+)", status.read_text(), re.MULTILINE)
        assert user is not None and int(user[1]) == (os.geteuid() or deploy.UID)
    assert json.loads(get(service["url"] + "/health")[1]) == {"status": "healthy"}
    code, answer = get(service["url"] + "/ready")
    assert code == 200, answer
    assert {"status": "ready", "model_loaded": True}.items() <= json.loads(answer).items()
    for path in ("/schema", "/openapi.json", "/docs", "/static/dashboard.html"):
        assert get(service["url"] + path)[0] == 200, path
    assert "torch" not in deploy.read("requirements-serve.lock")
    assert not list(service["work"].rglob("__pycache__"))


def test_the_health_check_of_the_image_tells_a_service_from_none(service):
    (check,) = deploy.values("serve", "HEALTHCHECK")
    python, option, program = json.loads(check[check.index("[") :])
    assert (python, option) == ("python", "-c")
    for port, code in ((service["port"], 0), (free_port(), 1)):
        asked = program.replace(f":{deploy.PORT}/", f":{port}/")
        assert asked != program
        assert subprocess.run([sys.executable, "-c", asked], capture_output=True).returncode == code


def test_probes_and_metrics_are_those_that_manifests_and_dashboards_name(service):
    for path in deploy.PROBES["service"]:
        assert get(service["url"] + path)[0] == 200
    exported: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(get(service["url"] + "/metrics")[1]):
        for sample in family.samples:
            exported.setdefault(sample.name, set()).update(sample.labels)
    assert {name: exported.get(name) for name in deploy.METRICS} == deploy.METRICS


def test_settings_in_the_manifests_are_ones_that_the_service_reads():
    from thesis_lib.serving.app import Settings

    prefix = Settings.model_config["env_prefix"]
    known = {prefix + name.upper() for name in Settings.model_fields} | {"CITYLEARN_DATASETS"}
    for overlay in deploy.OVERLAYS:
        for config in deploy.named(deploy.rendered(overlay), "ConfigMap").values():
            assert config["data"].keys() <= known
    assert deploy.compose()["services"]["service"]["environment"].keys() <= known
    grace = deploy.named(deploy.rendered("local"), "Deployment")["maddpg"]["spec"]["template"]["spec"]
    before = grace["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert before + Settings.model_fields["drain_seconds"].default < grace["terminationGracePeriodSeconds"]


def test_prometheus_scrapes_the_service_and_evaluates_every_alert(service, tmp_path):
    program = deploy.tool("prometheus")
    settings = deploy.read_yaml("deploy/monitoring/prometheus.yaml")
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{service['port']}"]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.copy(deploy.DEPLOY / "monitoring" / "alerts.yaml", tmp_path)
    port, log = free_port(), tmp_path / "prometheus.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [program, "--config.file=prometheus.yaml", f"--web.listen-address=127.0.0.1:{port}"],
            cwd=tmp_path,
            stdout=output,
            stderr=output,
        )
    base = f"http://127.0.0.1:{port}"

    def query(expression: str) -> list[dict[str, Any]]:
        code, text = get(f"{base}/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        assert code == 200, text
        return json.loads(text)["data"]["result"]

    try:
        until("Prometheus", f"{base}/-/ready", process, log)
        for _ in range(300):
            if len(query('max_over_time(up{job="maddpg"}[1m]) == 1')) and len(query("uptime_seconds")):
                break
            time.sleep(0.1)
        for expression in deploy.expressions():
            query(expression.replace("$__rate_interval", "1m"))
            for metric in deploy.names_in(expression)[0]:
                assert query(metric), f"{metric} was not scraped"
        quiet = {rule["alert"]: ("ok", "inactive") for rule in deploy.rules()}
        for _ in range(300):  # an alert may be pending on what was evaluated before the first scrape
            (group,) = json.loads(get(f"{base}/api/v1/rules")[1])["data"]["groups"]
            states = {rule["name"]: (rule["health"], rule["state"]) for rule in group["rules"]}
            if states == quiet:
                break
            time.sleep(0.1)
        assert states == quiet
    finally:
        process.terminate()
        process.wait(30)
