"""Random requests, from the service's own OpenAPI description and beside it: none may end in a 5xx."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from conftest import find
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import exported, midsummer, running

from thesis_lib.serving.load import resident_mb

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
ANSWERS = {200, 400, 401, 404, 405, 408, 413, 422, 429}
NUMBERS = st.floats() | st.integers() | st.sampled_from([1e6, -1e6, 1e6 + 1, 1e38, 1e39, 5e-324, 2**63, -(2**63)])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder, results = exported(tmp_path_factory), tmp_path_factory.mktemp("results")
    run = results / "runs" / "offline" / "rule" / "default" / "seed_0"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    hourly = ["engine,row,net", *(f"citylearn,{row},1.5" for row in range(8759))]
    (run / "hourly.csv.gz").write_bytes(gzip.compress("\n".join(hourly).encode()))
    with running(folder, data=find("offline").schema.parent, results=results, seconds=120) as (client, _):
        client.post("/simulate/reset")
        client.get("/comparison")
        yield client


def of_schema(schema: dict[str, Any], parts: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a JSON schema describes, now and then something else in its place."""
    if "$ref" in schema:
        return of_schema(parts[schema["$ref"].rsplit("/", 1)[1]], parts)
    if "anyOf" in schema:
        return st.one_of([of_schema(each, parts) for each in schema["anyOf"]])
    kind = schema.get("type")
    found: st.SearchStrategy[Any]
    if kind == "object":
        fields = {name: of_schema(value, parts) for name, value in schema.get("properties", {}).items()}
        needed = set(schema.get("required", ()))
        found = st.fixed_dictionaries(
            {name: value for name, value in fields.items() if name in needed},
            optional={name: value for name, value in fields.items() if name not in needed},
        )
    elif kind == "array":
        found = st.lists(of_schema(schema["items"], parts), max_size=20)
    elif kind == "integer":
        found = st.integers(schema.get("minimum"), min(schema.get("maximum", 48), 48))
    elif kind == "number":
        found = st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False)
    else:
        found = st.none()
    return st.integers(0, 19).flatmap(lambda draw: ANYTHING if draw == 0 else found)


@st.composite
def nearly_right(draw: Any) -> dict[str, Any]:
    """A request that would be served, but for a few values, or a home too many or too few."""
    homes: list[Any] = [list(home) for home in SEEN]
    for _ in range(draw(st.integers(0, 4))):
        home = draw(st.integers(0, len(homes) - 1))
        if isinstance(homes[home], list) and homes[home]:
            homes[home][draw(st.integers(0, len(homes[home]) - 1))] = draw(NUMBERS | ANYTHING)
    change = draw(st.integers(0, 9))
    if change == 0:
        homes.pop(draw(st.integers(0, len(homes) - 1)))
    elif change == 1:
        homes[draw(st.integers(0, len(homes) - 1))] = draw(ANYTHING)
    elif change == 2:
        homes.append(draw(ANYTHING))
    return {"observations": homes}


SEEN: list[list[float]] = []


def check(answer: httpx.Response, operation: dict[str, Any] | None = None) -> None:
    assert answer.status_code in ANSWERS, answer.text
    if operation is not None:  # as the description says
        content = operation["responses"][str(answer.status_code)]["content"]
        if "application/json" in content:
            jsonschema.validate(
                answer.json(), content["application/json"]["schema"] | {"components": DESCRIPTION["components"]}
            )
    if answer.status_code == 200 and answer.url.path == "/predict":
        assert all(-1.0 <= value <= 1.0 for home in answer.json()["actions"] for value in home)


@pytest.mark.parametrize("body", [b"\xc4", b"\xff\xfe{}", b'{"observations": "\xc4"}'])
def test_bytes_that_are_no_text_are_refused(service: httpx.Client, body: bytes) -> None:
    for kind in ("application/json", "text/plain"):
        assert service.post("/predict", content=body, headers={"content-type": kind}).status_code in (400, 422)
        answer = service.post("/simulate/reset", content=body, headers={"content-type": kind})
        assert 400 <= answer.status_code < 500


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def send(service: httpx.Client, data: st.DataObject) -> None:
    SENT.append(None)
    if len(SENT) == EXAMPLES // 5:
        MEMORY.append(resident_mb(str(service.base_url)))
    case = data.draw(st.integers(0, 9))
    if case < 5:
        answer = service.post("/predict", content=json.dumps(data.draw(nearly_right())))
        check(answer, DESCRIPTION["paths"]["/predict"]["post"])
    elif case < 8:
        operations = [
            (path, method, operation)
            for path, methods in DESCRIPTION["paths"].items()
            for method, operation in methods.items()
        ]
        path, method, operation = data.draw(st.sampled_from(operations))
        content = None
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            parts = DESCRIPTION["components"]["schemas"] | schema.get("$defs", {})
            content = json.dumps(data.draw(of_schema(schema, parts)))
        query = {}
        for parameter in operation.get("parameters", ()):
            drawn = of_schema(parameter["schema"], {}) | ANYTHING
            query[parameter["name"]] = str(data.draw(drawn)).encode("utf-8", "replace")
        headers = {"content-type": "application/json"}
        check(service.request(method, path, content=content, params=query, headers=headers), operation)
    else:
        path = data.draw(st.sampled_from(["/predict", "/simulate/reset", "/simulate/step", "/schema", "/nothing"]))
        method = data.draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]))
        content = data.draw(st.binary(max_size=400))
        kind = data.draw(st.sampled_from(["application/json", "text/plain", "application/octet-stream", ""]))
        check(service.request(method, path, content=content, headers={"content-type": kind}))


DESCRIPTION: dict[str, Any] = {}
SENT: list[None] = []
MEMORY: list[float] = []  # MB, when a fifth of the requests had been sent


def test_no_request_ends_in_a_5xx_and_memory_does_not_grow(service: httpx.Client) -> None:
    SEEN.extend(midsummer())
    DESCRIPTION.update(service.get("/openapi.json").json())
    send(service=service)
    MEMORY.append(resident_mb(str(service.base_url)))
    assert len(SENT) >= EXAMPLES and not MEMORY[-1] > 1.1 * MEMORY[0]  # NaN where the system does not tell
    assert service.get("/ready").status_code == 200
    assert service.post("/predict", json={"observations": midsummer()}).status_code == 200
