"""The service: every endpoint, every limit, what it does when things go wrong, and CityLearn as its client."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import find, model
from pydantic import ValidationError
from served import exported, midsummer, packed, running

from thesis_lib.community import dataset, original
from thesis_lib.community.kpis import Service, evaluate
from thesis_lib.maddpg.training import load_policy
from thesis_lib.serving import app, comparison, export, simulation
from thesis_lib.serving import client as clients
from thesis_lib.serving.policy import ModelError, ServedPolicy, seal
from thesis_lib.serving.schemas import PredictRequest
from thesis_lib.serving.simulation import Simulation

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory)


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with running(folder, data=find("offline").schema.parent, results=folder / "none", seconds=60) as (client, _):
        yield client


def test_health_and_readiness(client: httpx.Client) -> None:
    assert (client.get("/health").status_code, client.get("/health").json()) == (200, {"status": "healthy"})
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "model_loaded": True})


def test_predict(client: httpx.Client, folder: Path) -> None:
    seen = midsummer()
    answer = client.post("/predict", json={"observations": seen})
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"actions", "timestamp", "model_version"}
    served = ServedPolicy(folder / "policy.onnx")
    assert body["model_version"] == served.version
    assert [*map(len, body["actions"])] == [len(names) for names in model("offline").action_names]
    np.testing.assert_allclose(packed(body["actions"]), served.act(packed(seen)), atol=1e-6)
    moment = datetime.fromisoformat(body["timestamp"])
    assert moment.tzinfo is not None and abs((datetime.now(UTC) - moment).total_seconds()) < 60


def test_schema(client: httpx.Client) -> None:
    community = model("offline")
    homes = client.get("/schema").json()["homes"]
    assert [[entry["name"] for entry in home["observations"]] for home in homes] == community.observation_names
    assert [[entry["name"] for entry in home["actions"]] for home in homes] == community.action_names
    units = {entry["name"]: entry["unit"] for entry in homes[0]["observations"]}
    assert units["electricity_pricing"] == "EUR/kWh" and units["non_shiftable_load"] == "kWh"
    assert all(-1 <= entry["low"] <= 0 < entry["high"] <= 1 for home in homes for entry in home["actions"])


def changed(home: int, place: int, value: Any) -> list[list[Any]]:
    seen: list[list[Any]] = midsummer()
    seen[home][place] = value
    return seen


WRONG = {
    "too few homes": (lambda: midsummer()[:16], 422, "16 homes, expected 17", None),
    "no home": (lambda: [], 422, "0 homes, expected 17", None),
    "a value is missing": (lambda: [*midsummer()[:2], midsummer()[2][:-1], *midsummer()[3:]], 422, "27", "Building_3"),
    "a value too many": (lambda: [midsummer()[0] + [1.0], *midsummer()[1:]], 422, "53 values", "Building_1"),
    "NaN": (lambda: changed(4, 7, float("nan")), 422, "finite", "Building_5"),
    "infinity": (lambda: changed(4, 7, float("inf")), 422, "finite", "Building_5"),
    "absurd": (lambda: changed(16, 0, 1e30), 422, "less than or equal", "Building_17"),
    "text": (lambda: changed(1, 2, "3"), 422, "number", "Building_2"),
    "null": (lambda: changed(1, 2, None), 422, "number", "Building_2"),
    "a list": (lambda: changed(1, 2, [1.0]), 422, "number", "Building_2"),
    "a home that is no list": (lambda: [3.0, *midsummer()[1:]], 422, "array", "Building_1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_observations_name_the_home_and_the_field(client: httpx.Client, case: str) -> None:
    observations, status, says, home = WRONG[case]
    answer = client.post("/predict", content=json.dumps({"observations": observations()}), headers=JSON)
    body = answer.json()
    assert answer.status_code == status and says in body["detail"]
    assert body["home"] == home and (home is None or home in body["detail"])
    if case in ("NaN", "infinity", "absurd", "text", "null", "a list"):
        place = {"Building_5": (4, 7), "Building_17": (16, 0), "Building_2": (1, 2)}[home]
        assert body["field"] == model("offline").observation_names[place[0]][place[1]]
        assert body["field"] in body["detail"]
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[]", 422), (b"{}", 422), (b'{"observations": 1}', 422)]
    + [(b'{"observations": [], "more": 1}', 422), (b"[" * 60_000, 400), (b'{"a":' * 10_000, 400)],
)
def test_a_body_that_is_no_request(client: httpx.Client, content: bytes, status: int) -> None:
    answer = client.post("/predict", content=content, headers=JSON)
    assert answer.status_code == status and answer.json()["detail"]


def test_a_body_too_large(client: httpx.Client) -> None:
    for content in (b" " * 70_000, iter([b" " * 1000] * 70)):  # with its length told, and without
        answer = client.post("/predict", content=content, headers=JSON)
        assert answer.status_code == 413 and "large" in answer.json()["detail"].lower()
    assert client.post("/predict", json={"observations": midsummer()}).status_code == 200


def test_many_faults_cost_no_more_than_one(client: httpx.Client, folder: Path) -> None:
    def cost(content: bytes) -> float:
        seconds = []
        for _ in range(5):
            begun = time.process_time()
            with pytest.raises(ValidationError) as fault:
                PredictRequest.model_validate_json(content)
            problem = app.refusal(fault.value, served).detail
            seconds.append(time.process_time() - begun)
            assert problem["home"] == "Building_1"
        return min(seconds)

    served = ServedPolicy(folder / "policy.onnx")
    numbers = b'{"observations": [[' + b"1.0, " * 11_000
    for faults in (b"null," * 10_000 + b"null]]}", b"null]," + b"[null]," * 8_000 + b"[]]}"):
        assert cost(b'{"observations": [[' + faults) < 5 * cost(numbers + b"null]]}")


def refused(client: httpx.Client, status: int) -> float:
    found = re.search(rf'maddpg_requests_refused_total{{status="{status}"}} (\S+)', client.get("/metrics").text)
    return float(found[1]) if found else 0.0


def test_refusals_are_counted_by_their_status(client: httpx.Client) -> None:
    before = {status: refused(client, status) for status in (400, 404, 413, 422, 431)}
    client.get("/nowhere")
    client.post("/predict", content=b" " * 70_000, headers=JSON)
    client.post("/predict", json={"observations": []})
    client.get("/health", headers={"cookie": "c" * 17_000})
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as raw:
        raw.sendall(b"no request\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert {status: refused(client, status) - count for status, count in before.items()} == dict.fromkeys(before, 1)


def test_metrics(client: httpx.Client, folder: Path) -> None:
    def read() -> dict[str, float]:
        text = client.get("/metrics").text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    before = read()
    client.post("/predict", json={"observations": midsummer()})
    client.post("/predict", json={"observations": []})
    after = read()
    for name, by in (
        ("maddpg_predictions_total", 1),
        ("maddpg_prediction_errors_total", 1),
        ("maddpg_prediction_duration_seconds_count", 1),
        ("maddpg_request_duration_seconds_count", 2),
    ):
        assert after[name] - before[name] == by, name
    assert 'maddpg_prediction_duration_seconds_bucket{le="1e-05"}' in after
    assert 'maddpg_prediction_duration_seconds_bucket{le="0.01"}' in after
    assert after["uptime_seconds"] > before["uptime_seconds"] > 0
    assert abs(after["maddpg_model_load_timestamp"] - time.time()) < 600
    version = ServedPolicy(folder / "policy.onnx").version
    community = model("offline")
    seen, done = (sum(map(len, names)) for names in (community.observation_names, community.action_names))
    labels = f'actions="{done}",agents="17",observations="{seen}",version="{version}"'
    assert after[f"maddpg_model_info{{{labels}}}"] == 1


def test_the_time_of_a_request_holds_its_waiting(folder: Path) -> None:
    async def ask(application: Any, before: float) -> None:
        async def waited(scope: Any, receive: Any, send: Any) -> None:
            await application(scope | {"state": {"arrived": time.perf_counter() - before}}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(waited), base_url="http://inside") as client:
            await client.post("/predict", json={"observations": []})
            await client.get("/health")

    application = app.create_app(app.Settings(model=folder))
    asyncio.run(ask(application, 7.0))
    found = application.state.service.metrics.registry.get_sample_value
    assert found("maddpg_request_duration_seconds_count") == 1
    assert found("maddpg_request_duration_seconds_sum") >= 7
    assert found("maddpg_request_duration_seconds_bucket", {"le": "5.0"}) == 0


def test_every_answer_is_guarded_and_none_is_open_to_other_sites(client: httpx.Client) -> None:
    for path in ("/health", "/docs", "/openapi.json", "/static/dashboard.html", "/nowhere"):
        answer = client.get(path, headers={"origin": "http://elsewhere.example"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    preflight = {"origin": "http://elsewhere.example", "access-control-request-method": "POST"}
    answer = client.options("/predict", headers=preflight)
    assert answer.status_code == 405 and "access-control-allow-origin" not in answer.headers


def test_a_page_of_another_site_moves_nothing(client: httpx.Client) -> None:
    here = f"{client.base_url.host}:{client.base_url.port}"
    client.post("/simulate/reset", json={"start": 7})
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://elsewhere.example"},
        {"origin": f"http://elsewhere.{here}", "sec-fetch-site": "same-origin"},
        {"origin": "null"},
    ):
        answer = client.post("/simulate/reset", content=b"", headers=headers | {"content-type": "text/plain"})
        assert answer.status_code == 403 and "another site" in answer.json()["detail"], headers
        assert answer.headers["x-content-type-options"] == "nosniff"
    own = {"origin": f"http://{here}", "sec-fetch-site": "same-origin"}
    answer = client.post("/simulate/step", json={"hours": 1}, headers=own)
    assert answer.status_code == 200 and answer.json()["hours"][0]["row"] == 7


def test_nothing_outside_the_static_folder_is_served(client: httpx.Client) -> None:
    host, port = client.base_url.host, client.base_url.port
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"):
        with socket.create_connection((host, port), timeout=10) as raw:  # a client library would tidy the path
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        assert b" 404 " in answer.splitlines()[0] and b"create_app" not in answer and b"root:" not in answer


def test_the_simulation_is_one_episode_of_the_real_community(client: httpx.Client) -> None:
    answer = client.post("/simulate/reset", json={"start": 500})
    assert answer.status_code == 200
    episode = answer.json()
    assert episode["edition"] == "offline" and episode["row"] == 500 and len(episode["homes"]) == 17
    assert episode["variant"] == "broadcast"
    # What the policy does in it is what /predict says.
    wanted = client.post("/predict", json={"observations": episode["observations"]}).json()["actions"]
    first = client.post("/simulate/step").json()
    np.testing.assert_allclose(packed(first["hours"][0]["actions"]), packed(wanted), atol=1e-6)
    rest = client.post("/simulate/step", json={"hours": 24}).json()
    assert [hour["row"] for hour in rest["hours"]] == list(range(501, 525)) and rest["row"] == 525
    own = client.post("/simulate/step", json={"actions": [[0.0] * len(home) for home in wanted]}).json()
    assert own["hours"][0]["battery"] == [0.0] * 17
    for path, body in (
        *(("reset", {"start": value}) for value in (-1, 8759, "0")),
        ("reset", {"begin": 0}),
        *(("step", {"hours": value}) for value in (0, 169)),
        *(("step", {"actions": value}) for value in ([[0.0]], [[2.0]], [[None] * 9] * 9)),
    ):
        answer = client.post(f"/simulate/{path}", json=body)
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(f"{next(iter(body))}: ")  # one sentence that names the field
    answer = client.post("/simulate/reset", content=b"{", headers=JSON)
    assert answer.status_code == 400 and answer.json()["detail"].startswith("the body: ")


def test_the_comparison_wants_runs(client: httpx.Client) -> None:
    answer = client.get("/comparison", params={"start": 0, "hours": 24})
    assert answer.status_code == 503 and "no evaluated run" in answer.json()["detail"]
    answer = client.get("/comparison", params={"start": 0, "hours": 0})
    assert answer.status_code == 422 and answer.json()["detail"].startswith("hours: ")


def test_the_comparison_reads_what_runs_left(tmp_path: Path) -> None:
    import pandas as pd

    from thesis_lib.provenance import write_csv_atomic

    for name in ("charge_on_arrival", "business_as_usual", "rule"):
        run = tmp_path / "runs" / "offline" / name / "default" / "seed_0"
        run.mkdir(parents=True)
        net = [float(len(name) + hour) for hour in range(5)]
        both = pd.DataFrame(
            {"engine": ["citylearn"] * 5 + ["model"] * 5, "row": [*range(5)] * 2, "net": net + [0.0] * 5}
        )
        write_csv_atomic(run / "hourly.csv.gz", both)
        flows = {
            "row": range(5),
            "battery/Building_15": 1.0,
            "charger/charger_15_2": 2.0,
            "battery_soc/Building_15": 9.0,
        }
        write_csv_atomic(run / "flows.csv.gz", pd.DataFrame(flows | {"appliance/deferrable_appliance_1": 4.0}))
        (run / "run.json").write_text("{}")
    found = comparison.read(tmp_path, "offline", 1, 3)
    # No learner was rolled: its place stays empty; the rule is the better of the two comparators.
    assert [(run["role"], run["controller"]) for run in found["runs"]] == [
        ("no_control", "charge_on_arrival"),
        ("comparator", "rule"),
    ]
    assert found["runs"][1]["net"] == [5.0, 6.0, 7.0]
    assert found["runs"][1]["homes"] == {"Building_15": [3.0] * 3, "Building_1": [4.0] * 3}
    hourly = tmp_path / "runs" / "offline" / "rule" / "default" / "seed_0" / "hourly.csv.gz"
    whole = hourly.read_bytes()
    for content in (
        None,
        b"",
        whole[:-20],
        b"no gzip",
        whole[:30] + b"\x00\xff\x00" + whole[33:],
        *(gzip.compress(text.encode("latin-1")) for text in ("engine\ncitylearn\n", "engine,net\ncitylearn\n", "\xc4")),
        *(gzip.compress(f"engine,net\ncitylearn,{value}\n".encode()) for value in ("many", "inf", '"')),
    ):
        hourly.unlink() if content is None else hourly.write_bytes(content)
        os.utime(hourly.with_name("run.json"))  # made again
        with pytest.raises(comparison.ComparisonError, match="rule/default/seed_0 cannot be read"):
            comparison.read(tmp_path, "offline", 1, 3)


def test_without_a_data_set_the_policy_is_served_all_the_same(folder: Path, tmp_path: Path) -> None:
    with running(folder, data=tmp_path) as (client, _):
        answer = client.post("/simulate/reset")
        assert answer.status_code == 503 and "set it to the folder of the data set" in answer.json()["detail"]
        assert client.post("/predict", json={"observations": midsummer()}).status_code == 200


def test_a_token_where_one_is_set(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("a secret\n")
    with running(folder, token_file=secret, log=tmp_path / "log") as (client, _):
        body = {"observations": midsummer()}
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic a secret"}):
            answer = client.post("/predict", json=body, headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert client.post("/simulate/reset").status_code == 401
        assert refused(client, 401) == 4
        assert client.get("/ready").status_code == 200
        assert client.post("/predict", json=body, headers={"authorization": "Bearer a secret"}).status_code == 200
        metrics = client.get("/metrics").text
    log = (tmp_path / "log").read_text()
    assert "Uvicorn running" in log and "secret" not in log + metrics


def test_settings_that_cannot_be_used_end_in_one_line(tmp_path: Path) -> None:
    for name, value, says in (
        ("THESIS_PORT", "70000", "THESIS_PORT"),
        ("THESIS_CONCURRENCY", "many", "THESIS_CONCURRENCY"),
        ("THESIS_TOKEN_FILE", str(tmp_path / "nothing"), "cannot be read"),
        ("THESIS_TOKEN", "", "the token is empty"),
        ("THESIS_TOKEN", "clé", "beyond ASCII"),
    ):
        answer = subprocess.run(
            [sys.executable, "-m", "thesis_lib.serving.app"],
            env=os.environ | {name: value},
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 1 and says in answer.stderr and answer.stderr.count("\n") == 1, answer.stderr


def test_a_model_is_replaced_without_a_failed_request_and_a_bad_one_is_not_taken(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    file = tmp_path / "model" / "policy.onnx"
    whole, body = file.read_bytes(), {"observations": midsummer()}
    card = ServedPolicy(file).card

    def put(content: bytes) -> None:
        draft = file.with_suffix(".draft")
        draft.write_bytes(content)
        os.replace(draft, file)

    def rejected(client: httpx.Client) -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("maddpg_model_rejected_total")).split()[1])

    def until(ready: Any) -> None:
        for _ in range(600):
            if ready():
                return
            time.sleep(0.05)
        raise AssertionError("nothing happened in 30 s")

    file.write_bytes(whole[:1000])
    with running(tmp_path / "model", reload_seconds=0.05) as (client, _):
        answer = client.get("/ready")
        assert answer.status_code == 503 and answer.json()["model_loaded"] is False
        assert "damaged" in answer.json()["reason"]
        assert client.get("/health").status_code == 200
        assert client.post("/predict", json=body).status_code == 503
        put(whole)
        until(lambda: client.get("/ready").status_code == 200)
        statuses, versions, stop = [], set(), threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=client.base_url, timeout=30) as own:
                while not stop.is_set():
                    answer = own.post("/predict", json=body)
                    statuses.append(answer.status_code)
                    versions.add(answer.json().get("model_version"))

        asking = threading.Thread(target=ask)
        asking.start()
        no_text = seal(whole[:-76].replace(b'"communication"', b'\xc4communication"'))
        flipped = whole[:9000] + bytes([whole[9000] ^ 1]) + whole[9001:]
        step = (folder / "step.onnx").read_bytes()
        for number, bad in enumerate((whole[:5000], b"nothing", no_text, flipped, step)):
            before = rejected(client)
            put(bad)
            until(lambda before=before: rejected(client) > before)
            assert client.get("/ready").status_code == 200, number
        put(export.with_card(whole, card | {"version": "another"}))
        until(lambda: client.get("/schema").json()["model_version"] == "another")
        file.unlink()
        until(lambda: rejected(client) > 6)
        assert client.post("/predict", json=body).json()["model_version"] == "another"
        stop.set()
        asking.join()
    assert set(statuses) == {200} and versions == {card["version"], "another"}


def test_whatever_a_model_file_makes_a_library_raise_is_counted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = app.Service(app.Settings(model=folder))

    def broken(path: Path, threads: int) -> ServedPolicy:
        raise RuntimeError("nobody foresaw it")

    with monkeypatch.context() as patched:
        patched.setattr(app, "ServedPolicy", broken)
        service.load()
    assert service.metrics.registry.get_sample_value("maddpg_model_rejected_total") == 1
    assert service.policy is None and service.why == "policy.onnx: RuntimeError"
    service.load()
    assert service.policy is not None


def test_a_file_that_may_be_read_again_is_another(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "policy.onnx", tmp_path)
    service = app.Service(app.Settings(model=tmp_path))
    before = service.signature()
    time.sleep(0.02)
    (tmp_path / "policy.onnx").chmod(0o600)
    assert service.signature() != before


@contextlib.contextmanager
def inside(folder: Path, seconds: float) -> Iterator[tuple[app.Service, httpx.AsyncClient]]:
    """The application in this process, its episode begun, for faults that no request can cause."""
    application = app.create_app(app.Settings(model=folder, data=find("offline").schema.parent, seconds=seconds))
    service: app.Service = application.state.service
    service.load()
    service.episode().reset(0)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    yield service, httpx.AsyncClient(transport=transport, base_url="http://inside")
    service.thread.shutdown()


def test_a_step_that_runs_out_of_time_is_ended_before_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, hour = [], Simulation._hour

    def slow(self: Simulation, actions: Any) -> Any:
        state = self.state
        time.sleep(0.05)
        self.state = state  # another thread's steps would be undone
        done = hour(self, actions)
        rows.append(done.row)
        return done

    async def ask(client: httpx.AsyncClient) -> list[int]:
        late = [(await client.post("/simulate/step", json={"hours": 18})).status_code for _ in range(3)]
        for _ in range(100):
            if (await client.post("/simulate/step")).status_code == 200:
                return late
        raise AssertionError("the episode does not go on")

    monkeypatch.setattr(Simulation, "_hour", slow)
    with inside(folder, seconds=0.5) as (_, client):
        assert 503 in asyncio.run(ask(client))
    assert rows == list(range(len(rows))) and len(rows) >= 19


def test_steps_that_wait_leave_room_for_predictions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, step = threading.Event(), Simulation.step
    monkeypatch.setattr(Simulation, "step", lambda self, *given: (go_on.wait(30), step(self, *given))[1])

    async def ask(service: app.Service, client: httpx.AsyncClient) -> None:
        waiting = [asyncio.create_task(client.post("/simulate/step")) for _ in range(app.WAITING)]
        while service.waiting < app.WAITING:
            await asyncio.sleep(0.01)
        for answer in (
            await client.post("/simulate/step"),
            await client.get("/comparison", params={"start": 0, "hours": 1}),
        ):
            assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
        assert (await client.post("/predict", json={"observations": midsummer()})).status_code == 200
        go_on.set()
        answers = [await each for each in waiting]
        assert [answer.json()["hours"][0]["row"] for answer in answers] == list(range(app.WAITING))

    with inside(folder, seconds=60) as (service, client):
        asyncio.run(ask(service, client))


def test_faults_inside_are_guarded_answers_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> None:
        raise ZeroDivisionError

    def failing(*given: Any) -> None:
        raise ModelError("the graph failed (Fail)")

    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.get("/comparison", params={"start": 0, "hours": 1})
        assert answer.status_code == 500 and "log" in answer.json()["detail"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        answer = await client.post("/simulate/step")
        assert answer.status_code == 503 and "the graph failed" in answer.json()["detail"]
        text = (await client.get("/metrics")).text
        assert 'refused_total{status="500"} 1.0' in text and 'refused_total{status="503"} 1.0' in text

    with inside(folder, seconds=60) as (_, client):
        monkeypatch.setattr(comparison, "read", broken)
        monkeypatch.setattr(simulation, "run", failing)
        asyncio.run(ask(client))


def test_a_burst_waits_in_line_and_everybody_is_answered(folder: Path) -> None:
    content = json.dumps({"observations": midsummer()}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    with running(folder, connections=250) as (client, _), contextlib.ExitStack() as held:
        address = (client.base_url.host, client.base_url.port)
        burst = [held.enter_context(socket.create_connection(address, timeout=30)) for _ in range(200)]
        for connection in burst:
            connection.sendall(head.encode() + content)
        # More than the 64 under way, but none is half done when the next begins: no prediction waits for anything.
        assert client.get("/health").status_code == 200
        for connection in burst:
            answer = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 200 ") and b"model_version" in answer
        more = [held.enter_context(socket.create_connection(address, timeout=30)) for _ in range(300)]
        more[-1].sendall(head.encode() + content)
        assert more[-1].recv(4096).startswith(b"HTTP/1.1 503 ")  # the line has an end


def test_overload_is_refused_and_passes(folder: Path) -> None:
    with running(folder, concurrency=4, seconds=2) as (client, _):
        address = (client.base_url.host, client.base_url.port)
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
        slow = [socket.create_connection(address, timeout=30) for _ in range(4)]
        for connection in slow:  # a body that never comes
            connection.sendall(head)
        body = {"observations": midsummer()}
        for _ in range(600):
            answer = client.post("/predict", json=body)
            if answer.status_code == 429:
                break
        assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
        assert client.get("/health").status_code == 200  # who asks for a sign of life gets it
        for connection in slow:
            assert b" 408 " in connection.recv(4096).splitlines()[0]
            connection.close()
        assert refused(client, 408) == 4 and refused(client, 429) == 1
        assert client.post("/predict", json=body).status_code == 200


GET = b"GET /health HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
FILE = b"GET /static/vendor/chart-4.6.1.umd.min.js HTTP/1.1\r\nHost: x\r\n\r\n"
WAITING = {  # what a client may send, and a little later, and then nothing more
    "nothing": (b"", b""),
    "half a head": (GET, b"X-More: "),
    "half a head after a whole one": (GET + b"\r\n", GET),
    "half a body": (POST % b"predict", b"["),
    "half a body that nobody waits for": (POST % b"nowhere", b"["),
    "more requests than it reads answers": (FILE * 20, b""),
}


@pytest.mark.parametrize("case", WAITING)
def test_connections_that_wait_are_closed_and_the_service_answers_again(folder: Path, case: str) -> None:
    with running(folder, connections=8, seconds=1) as (client, _), contextlib.ExitStack() as held:
        client.close()  # its own connection would be one of the eight

        def health() -> int:
            with httpx.Client(base_url=client.base_url, timeout=30) as fresh:
                return fresh.get("/health").status_code

        connections = [held.enter_context(socket.socket()) for _ in range(9)]
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((client.base_url.host, client.base_url.port))
            connection.sendall(WAITING[case][0])
        assert health() == 503
        for connection in connections:
            with contextlib.suppress(ConnectionError):  # the ninth was refused
                connection.sendall(WAITING[case][1])
        for _ in range(100):  # no longer than 10 s, and less than the 30 s that a connection may be kept for the next
            if health() == 200:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("it did not recover")
        with httpx.Client(base_url=client.base_url, timeout=30) as fresh:
            assert refused(fresh, 503) >= 1


def test_the_head_of_a_request_has_a_size(client: httpx.Client) -> None:
    def answers(sent: bytes) -> list[str]:
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as raw:
            with contextlib.suppress(ConnectionError):
                raw.sendall(sent)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while part := raw.recv(65536):
                    answer += part
        return re.findall(r"HTTP/1.1 (\d+)", answer.decode())

    last = b"Connection: close\r\n\r\n"
    assert answers(GET + b"Cookie: " + b"c" * 15_000 + b"\r\n" + last) == ["200"]
    assert answers(GET + b"Cookie: " + b"c" * 17_000 + b"\r\n" + last) == ["431"]
    assert answers(GET + b"X-Many: 1\r\n" * 2_000 + last) == ["431"]
    assert answers(b"GET /" + b"a" * 17_000) == ["431"]
    chunks = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    assert answers(chunks + b"X-Trailer: " + b"t" * 17_000) == ["431"]
    assert answers(chunks + b"X-Trailer: 1\r\n" * 2_000) == ["431"]
    assert answers(GET + b"X-Endless: " + b"c" * 60_000_000) in ([], ["431"])  # or the connection was reset before
    # One after the other: a body of any size is no part of a head, the next head is one of its own.
    content = json.dumps({"observations": midsummer()} | {"more": "m" * 40_000}).encode()
    body = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content) + content
    assert answers(body + GET + b"Cookie: " + b"c" * 9_000 + b"\r\n\r\n" + GET + last) == ["422", "200", "200"]
    assert client.get("/health").status_code == 200


def test_a_request_under_way_is_answered_before_the_service_ends(folder: Path) -> None:
    with running(folder) as (client, process):
        content = json.dumps({"observations": midsummer()}).encode()
        head = (
            f"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        )
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as raw:
            raw.sendall(head + content[:100])
            time.sleep(0.3)  # until the service has it
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert process.poll() is None
            raw.sendall(content[100:])
            assert b" 200 " in raw.recv(65536).splitlines()[0]
        # After its last answer it ends by the signal it was sent, as a shell would expect.
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)


def test_citylearn_rolls_a_week_with_actions_from_the_service(client: httpx.Client, folder: Path) -> None:
    source = find("offline")
    policy = load_policy(folder / "best.pt", model("offline"))
    own, _ = original.rollout(source, policy, end=168, progress=False)
    env = dataset.load(source, end=168)
    env.reset()
    service = Service.from_citylearn(env)
    remote = clients.roll(env, client)
    assert remote.net.shape == (168, 17)
    ours, theirs = (evaluate(run, service) for run in (own, remote))
    assert ours.kpi.tolist() == theirs.kpi.tolist() and len(ours) > 20
    np.testing.assert_allclose(theirs.value, ours.value, rtol=1e-6, atol=1e-6)
    usual, _ = original.rollout(source, _Idle(), end=168, progress=False)
    assert abs(usual.district - own.district).max() > 1  # the policy does something


class _Idle:
    def reset(self, community: Any) -> None:
        self.shape = (1, *community.action_mask.shape)

    def act(self, observations: Any) -> Any:
        return observations.new_zeros(self.shape)


def test_the_client_says_what_is_wrong_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert clients.main(["http://127.0.0.1:9", "--hours", "3", "--edition", "offline"]) == 1
    error = capsys.readouterr().err
    assert "does not answer" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<html>\n<body>Welcome</body>\n</html>", "says no edition but: <html> <body>Welcome"),
        (b'{"version": 1}', 'says no edition but: {"version": 1}'),
        (b"[1, 2]", r"says no edition but: \[1, 2\]"),
        (b"", "says no edition but: nothing"),
    ],
)
def test_the_client_says_in_one_line_that_another_service_answers(content: bytes, says: str) -> None:
    other = httpx.MockTransport(lambda request: httpx.Response(200, content=content))
    with httpx.Client(base_url="http://other", transport=other) as client:
        with pytest.raises(clients.ServiceError, match=says) as caught:
            clients.RemotePolicy(client).edition()
    assert "\n" not in str(caught.value)


def test_the_client_stops_at_data_of_another_edition(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(folder / "policy.onnx", tmp_path)
    file = tmp_path / "policy.onnx"
    card = ServedPolicy(file).card | {"edition": "official"}
    file.write_bytes(export.with_card(file.read_bytes(), card))
    with running(tmp_path) as (client, _):
        assert clients.main([str(client.base_url), "--hours", "3", "--edition", "offline"]) == 1
    error = capsys.readouterr().err
    assert "policy of the official edition" in error and error.count("\n") == 1


def test_many_clients_at_once_get_their_own_answers(client: httpx.Client, folder: Path) -> None:
    served, seen = ServedPolicy(folder / "policy.onnx"), midsummer()

    def ask(load: float) -> tuple[float, list[list[float]]]:
        own = [list(home) for home in seen]
        own[2][own_place] = load
        with httpx.Client(base_url=client.base_url, timeout=30) as mine:
            return load, mine.post("/predict", json={"observations": own}).json()["actions"]

    own_place = served.observations[2].index("non_shiftable_load")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for load, actions in pool.map(ask, np.linspace(0, 8, 48)):
            mine = [list(home) for home in seen]
            mine[2][own_place] = load
            np.testing.assert_allclose(packed(actions), served.act(packed(mine)), atol=1e-6)
