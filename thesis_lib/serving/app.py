"""The service: the policy over HTTP, one process, one event loop, no torch.

    python -m thesis_lib.serving.app --model models/broadcast

An inference takes less time than handing it to a thread, so requests are served one after the other in the event
loop. Settings come from the environment, see `Settings`.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thesis_lib.serving import comparison
from thesis_lib.serving.connections import bounded
from thesis_lib.serving.data import DataError
from thesis_lib.serving.metrics import Metrics
from thesis_lib.serving.policy import ModelError, ObservationError, ServedPolicy
from thesis_lib.serving.schemas import (
    Episode,
    Health,
    PredictRequest,
    PredictResponse,
    Problem,
    Ready,
    ResetRequest,
    SchemaResponse,
    StepRequest,
)
from thesis_lib.serving.simulation import EpisodeError, Simulation

ROOT = Path(__file__).resolve().parents[2]
STATIC = Path(__file__).with_name("static")
WAITING = 8  # requests for an episode or a comparison at once; more of them would take the places of /predict
Result = TypeVar("Result")
LOGGER = logging.getLogger("thesis_lib.serving")
BEARER = HTTPBearer(auto_error=False, description="Only where the service was given a token.")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


class Settings(BaseSettings):
    """From the environment: ``THESIS_MODEL``, ``THESIS_TOKEN`` and so on; a secret may be a file's content."""

    model_config = SettingsConfigDict(env_prefix="THESIS_", extra="ignore", frozen=True)

    model: Path = ROOT / "models" / "broadcast"  # folder with policy.onnx
    results: Path = ROOT / "results" / "thesis"  # of the comparisons on the dashboard
    data: Path | None = None  # folder of the data set; without it CITYLEARN_DATASETS, then the edition's cache
    token: str | None = None  # bearer token that /predict, /simulate and /comparison ask for
    token_file: Path | None = None  # or the file that holds it
    host: str = "0.0.0.0"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    threads: Annotated[int, Field(ge=1)] = 1  # of one inference
    body_bytes: Annotated[int, Field(ge=1)] = 65_536  # largest body; 17 homes' observations take about 5,000
    concurrency: Annotated[int, Field(ge=1)] = 64  # requests under way; beyond: 429
    connections: Annotated[int, Field(ge=1)] = 1024  # open at once; beyond: 503
    seconds: Annotated[float, Field(gt=0)] = 10.0  # for a request's head, for the rest of it, for its answer to be read
    drain_seconds: Annotated[int, Field(ge=0)] = 20  # for the requests under way when the service is told to stop
    reload_seconds: Annotated[float, Field(gt=0)] = 1.0  # between two looks at the model file

    def secret(self) -> bytes | None:
        """The token, or None where none is asked for.

        Raises:
            ValueError: the file cannot be read, or the token is empty or not ASCII.
        """
        token = self.token
        if self.token_file is not None:
            try:
                token = self.token_file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ValueError(f"THESIS_TOKEN_FILE {self.token_file} cannot be read ({error.strerror})") from None
        if token is not None and not token:
            raise ValueError("the token is empty: set THESIS_TOKEN or leave it out")
        if token is not None and not token.isascii():  # a header cannot carry it unchanged
            raise ValueError("the token has a character beyond ASCII: set THESIS_TOKEN to another")
        return None if token is None else token.encode()


def foreign(headers: Headers) -> bool:
    """Whether another site's page asks: its browser says so in headers that no page can write, and others send none."""
    origin = headers.get("origin")
    elsewhere = origin is not None and origin.partition("://")[2] != headers.get("host")
    return elsewhere or headers.get("sec-fetch-site") in ("cross-site", "same-site")


class Bounds:
    """ASGI middleware: so many requests at once, so many seconds and bytes each; security headers on every answer.

    Every refusal is counted here, whoever made it; those of requests that never come so far, in `connections`.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics):
        self.app, self.settings, self.metrics = app, settings, metrics
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, whole = False, False

        async def headed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *HEADERS]
                if message["status"] >= 400:
                    self.metrics.refused.labels(str(message["status"])).inc()
            await send(message)

        async def received() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or not message.get("more_body", False)
            return message

        async def refuse(status: int, why: str, **headers: str) -> None:
            await JSONResponse({"detail": why}, status, headers)(scope, receive, headed)

        # Whoever asks whether the service lives, or how it does, is answered even then.
        if self.under_way >= self.settings.concurrency and scope["path"] not in ("/health", "/ready", "/metrics"):
            return await refuse(429, "too many requests under way: try again", **{"retry-after": "1"})
        headers = Headers(scope=scope)
        # A browser sends a form or plain text to any address without asking first, one on its own machine too.
        if scope["method"] == "POST" and foreign(headers):
            return await refuse(403, "another site's page asks: only pages of this service may")
        # As it is told; the middleware below counts what comes.
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.settings.body_bytes:
            return await refuse(413, f"the body is larger than {self.settings.body_bytes} bytes")
        self.under_way += 1
        try:
            async with asyncio.timeout(self.settings.seconds):
                await self.app(scope, received, headed)
        except TimeoutError:
            if not started:
                status, what = (503, "served") if whole else (408, "received")
                await refuse(status, f"not {what} within {self.settings.seconds:g} s", connection="close")
        finally:
            self.under_way -= 1
            arrived = scope.get("state", {}).get("arrived")  # see `connections`; none of a body that is not whole
            if arrived is not None and scope["path"] == "/predict":
                self.metrics.answered.observe(time.perf_counter() - arrived)


class Service:
    """What the endpoints share: the model in use, the episode, the metrics."""

    def __init__(self, settings: Settings):
        self.settings, self.metrics = settings, Metrics()
        self.policy: ServedPolicy | None = None
        self.simulation: Simulation | None = None
        self.why = "no model loaded yet"
        self.seen: tuple[int, ...] | None = None
        # Nothing stops a thread: who asked may run out of time, and whoever comes next waits until the step is done.
        self.thread = ThreadPoolExecutor(1, "dashboard")
        self.waiting = 0

    @property
    def file(self) -> Path:
        """The model file in use."""
        return self.settings.model / "policy.onnx"

    def signature(self) -> tuple[int, ...]:
        """What changes when the model file is replaced."""
        try:
            status = self.file.stat()
        except OSError:
            return ()
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns  # the last: of its permissions too

    def load(self) -> None:
        """Load the model; what cannot be served leaves the old one in use."""
        self.seen = self.signature()
        try:
            policy = ServedPolicy(self.file, self.settings.threads)
        except Exception as error:  # whatever a file makes a library raise: start-up and the watch survive it
            self.metrics.rejected.inc()
            self.why = str(error) if isinstance(error, ModelError) else f"{self.file.name}: {type(error).__name__}"
            stays = "" if self.policy is None else f": {self.policy.version} stays in use"
            LOGGER.error("%s%s", self.why, stays, exc_info=not isinstance(error, ModelError))
            return
        if self.policy is not None and policy.sha256 == self.policy.sha256:
            return
        self.policy = policy
        self.metrics.model(len(policy.homes), sum(policy.sizes), sum(policy.action_sizes), policy.version)
        LOGGER.info("model %s loaded", policy.version)

    async def watch(self) -> None:
        """Load the model again whenever its file changes."""
        while True:
            await asyncio.sleep(self.settings.reload_seconds)
            if self.signature() != self.seen:
                await asyncio.to_thread(self.load)

    def model(self) -> ServedPolicy:
        """The model in use.

        Raises:
            HTTPException: 503, none is loaded.
        """
        if self.policy is None:
            raise HTTPException(503, f"no model: {self.why}")
        return self.policy

    def episode(self) -> Simulation:
        """The server's episode, made at its first use: the data set takes some seconds to read.

        Raises:
            HTTPException: 503, no model.
            ModelError, DataError: no graphs of the community, or no data set of the policy's edition.
        """
        policy = self.model()
        if self.simulation is None or self.simulation.policy is not policy:
            self.simulation = Simulation(self.settings.model, policy, self.settings.data)
        return self.simulation

    async def slowly(self, work: Callable[[], Result]) -> Result:
        """What takes longer than a prediction, in a thread, one after the other.

        Raises:
            HTTPException: 429, too many wait for it already; and what the work raises.
        """
        if self.waiting >= WAITING:
            raise HTTPException(429, "too many such requests under way: try again", {"Retry-After": "1"})
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.thread, work)
        finally:
            self.waiting -= 1

    async def simulate(self, step: Callable[[Simulation], Episode]) -> Episode:
        """Something done to the episode.

        Raises:
            HTTPException: 422, it cannot be done; 429, see `slowly`; 503, no model or no data set of its edition.
        """
        try:
            return await self.slowly(lambda: step(self.episode()))
        except EpisodeError as error:
            raise HTTPException(422, str(error)) from None
        except (DataError, ModelError) as error:
            raise HTTPException(503, f"no simulation: {error}") from None


def refusal(fault: ValidationError, policy: ServedPolicy) -> HTTPException:
    """The first fault of a body in words, naming the home and the field where there is one."""
    # Building one takes longer than looking at a number: the lists end at their first.
    first = fault.errors(include_url=False, include_context=False, include_input=False)[0]
    where, message = first["loc"], first["msg"]
    home = field = None
    if len(where) >= 2 and where[0] == "observations" and isinstance(where[1], int) and where[1] < len(policy.homes):
        home = policy.homes[where[1]]
        names = policy.observations[where[1]]
        if len(where) >= 3 and isinstance(where[2], int) and where[2] < len(names):
            field = names[where[2]]
    elif where:
        field = str(where[0])
    place = " ".join(part for part in (home, field) if part) or "the body"
    problem = Problem(detail=f"{place}: {message}", home=home, field=field)
    return HTTPException(400 if first["type"] == "json_invalid" else 422, problem.model_dump())


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application.

    Raises:
        ValueError: a setting that cannot be used.
    """
    settings = settings or Settings()
    secret = settings.secret()
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.load()
        watching = asyncio.create_task(service.watch())
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        service.thread.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="Community energy policy",
        version="1",
        summary="Cooperative MADDPG for the homes of one community: observations in, actions out.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=settings.body_bytes)
    app.add_middleware(Bounds, settings=settings, metrics=service.metrics)

    async def authorised(given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
        if secret is not None and not (given and hmac.compare_digest(given.credentials.encode(), secret)):
            raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})

    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": why}
        for status, why in (
            (400, "the body is no JSON"),
            (401, "no valid bearer token"),
            (403, "another site's page asks"),
            (408, "the body took too long"),
            (413, "the body is too large"),
            (422, "something in the body cannot be used"),
            (429, "too many requests under way"),
            (503, "no model, or no data set of its edition"),
        )
    }
    guarded: dict[str, Any] = {
        "dependencies": [Depends(authorised)] if secret is not None else [],
        "responses": problems,
    }

    @app.get("/health", tags=["state"])
    async def health() -> Health:
        """The process lives; no model work."""
        return Health()

    @app.get(
        "/ready",
        tags=["state"],
        responses={503: {"model": Ready, "description": "not ready"}},
        response_model_exclude_none=True,
    )
    async def ready(response: Response) -> Ready:
        """Whether a model is loaded and has answered once."""
        if service.policy is None:
            response.status_code = 503
            return Ready(status="not ready", model_loaded=False, reason=service.why)
        return Ready(status="ready", model_loaded=True)

    @app.get("/metrics", tags=["state"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    body = {"required": True, "content": {"application/json": {"schema": PredictRequest.model_json_schema()}}}

    @app.post(
        "/predict", tags=["policy"], response_model=PredictResponse, openapi_extra={"requestBody": body}, **guarded
    )
    async def predict(request: Request) -> Response:
        """What each home does, given what each observes in this hour."""
        raw = await request.body()
        begun = time.perf_counter()
        try:
            policy = service.model()
            try:
                # Straight from bytes to numbers: faster than parsing first and validating then.
                asked = PredictRequest.model_validate_json(raw)
                observations = policy.pack(asked.observations)
                with service.metrics.inference.time():
                    acted = policy.act(observations)[0]
                actions = policy.unpack(acted)
            except ValidationError as fault:
                raise refusal(fault, policy) from None
            except ObservationError as fault:
                problem = Problem(detail=str(fault), home=fault.home, field=fault.field)
                raise HTTPException(422, problem.model_dump()) from None
        except (HTTPException, ModelError) as error:
            service.metrics.errors.inc()
            if isinstance(error, ModelError):
                LOGGER.error("%s", error)
                raise HTTPException(503, str(error)) from None
            raise
        answer = {"actions": actions, "timestamp": datetime.now(UTC).isoformat(), "model_version": policy.version}
        response = Response(json.dumps(answer, separators=(",", ":")), media_type="application/json")
        service.metrics.duration.observe(time.perf_counter() - begun)
        service.metrics.predictions.inc()
        return response

    @app.get("/schema", tags=["policy"], responses={status: problems[status] for status in (429, 503)})
    async def schema() -> SchemaResponse:
        """What each home sees and does: names, units, order and bounds."""
        policy = service.model()
        card = policy.card
        return SchemaResponse(
            model_version=policy.version,
            edition=card["edition"],
            variant=card["variant"],
            communication=card["communication"],
            homes=card["homes"],
        )

    @app.post("/simulate/reset", tags=["simulation"], **guarded)
    async def simulate_reset(asked: ResetRequest | None = None) -> Episode:
        """Begin the server's one episode of the real community."""
        return await service.simulate(lambda episode: episode.reset((asked or ResetRequest()).start))

    @app.post("/simulate/step", tags=["simulation"], **guarded)
    async def simulate_step(asked: StepRequest | None = None) -> Episode:
        """Go on by some hours, under the policy or under the actions given."""
        given = asked or StepRequest()
        return await service.simulate(lambda episode: episode.step(given.hours, given.actions))

    @app.get("/comparison", tags=["simulation"], **guarded)
    async def compare(start: Annotated[int, Field(ge=0, le=8758)], hours: Annotated[int, Field(ge=1, le=336)]) -> Any:
        """What other controllers did in the same hours, from the files that their runs left."""
        policy = service.model()
        try:
            return await service.slowly(lambda: comparison.read(settings.results, policy.card["edition"], start, hours))
        except comparison.ComparisonError as error:
            raise HTTPException(503, str(error)) from None

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
        # In one sentence, and without the input itself, which FastAPI's own handler repeats.
        first = error.errors()[0]
        _, *where = first["loc"]  # body or query, then the field; an offset where the body is no JSON
        field = str(where[0]) if where and first["type"] != "json_invalid" else None
        problem = Problem(detail=f"{field or 'the body'}: {first['msg']}", field=field)
        return JSONResponse(problem.model_dump(), 400 if first["type"] == "json_invalid" else 422)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        # Beyond all middleware; the server logs what it was.
        service.metrics.refused.labels("500").inc()
        headers = {name.decode(): value.decode() for name, value in HEADERS}
        return JSONResponse({"detail": "a fault of the service, see its log"}, 500, headers)

    @app.exception_handler(HTTPException)
    async def problem(request: Request, error: HTTPException) -> JSONResponse:
        content = error.detail if isinstance(error.detail, dict) else {"detail": error.detail}
        return JSONResponse(content, error.status_code, error.headers)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response((STATIC / "docs.html").read_text(encoding="utf-8"), media_type="text/html")

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.serving.app", description=main.__doc__)
    parser.add_argument("--model", type=Path, help="folder with policy.onnx (default: models/broadcast)")
    parser.add_argument("--host", help="address to listen on (default: all)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 8000)")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = Settings(**given)
        app = create_app(settings)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = "THESIS_" + "_".join(str(part) for part in fault["loc"]).upper()
        print(f"error: {name}: {fault['msg']}, not {fault['input']!r}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        server_header=False,
        log_config=None,
        http=bounded(settings.seconds, app.state.service.metrics.refused),
        ws="none",
        limit_concurrency=settings.connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
