"""Speed of the service: the model alone, a request at a fixed rate, the highest rate, memory, start-up.

    python benchmarks/service.py [--json] [--output FILE] [--model models/broadcast] [--seconds 10] [--year]
    python benchmarks/service.py --soak 600 --rate 300

Service and client are processes of their own on this machine. Requests leave when they are due (open loop), and their
times count from then. The image is measured where a container engine has it. ``--year`` lets CityLearn itself run the
year (minutes) with every action from the service, beside the same policy in process; a KPI that differs is an error.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np

from thesis_lib import paths
from thesis_lib.community import dataset, original
from thesis_lib.community.dataset import Dataset, DatasetError
from thesis_lib.community.kpis import Service, evaluate
from thesis_lib.community.model import Community
from thesis_lib.community.original import Lists
from thesis_lib.maddpg.training import load_policy
from thesis_lib.provenance import run_record, write_json_atomic
from thesis_lib.serving import load
from thesis_lib.serving.client import RemotePolicy
from thesis_lib.serving.policy import ModelError, ServedPolicy

IMAGE = "maddpg-serve"
SAME = 1e-6  # what KPIs may differ by: relative, below 1 absolute


def observed(policy: ServedPolicy) -> list[list[float]]:
    """Something each home may observe. The values do not matter to the time."""
    return [[0.5] * size for size in policy.sizes]


def image_mb() -> float | None:
    """Size of the newest image of the service, MB; None without an engine or an image."""
    if shutil.which("docker") is None:
        return None
    answer = subprocess.run(
        ["docker", "image", "ls", IMAGE, "--format", "{{.ID}}"], capture_output=True, text=True, check=False
    )
    if answer.returncode or not answer.stdout.split():
        return None
    size = ["docker", "image", "inspect", answer.stdout.split()[0], "--format", "{{.Size}}"]
    return int(subprocess.run(size, capture_output=True, text=True, check=True).stdout) / 1e6


def year(folder: Path, source: Dataset, end: int | None = None) -> dict[str, float]:
    """CityLearn's year with every action over HTTP, beside the policy of ``best.pt`` in process.

    Args:
        folder: of an exported model, with its checkpoint.
        source: data of its edition.
        end: rows, from the first; None for all.

    Returns:
        year_kpi_difference: the largest of a KPI, relative, below 1 absolute; year_s: wall seconds over HTTP;
        year_http_share: of them, those between asking for actions and having them.

    Raises:
        ServiceError, CheckpointError: see `RemotePolicy.act`, `load_policy`.
        RuntimeError: the service did not start.
    """
    env = dataset.load(source, end=end)
    env.reset()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # CityLearn turned its line for each request on
    service, asked = Service.from_citylearn(env), 0.0
    with load.served(folder) as (url, _, _), httpx.Client(base_url=url, timeout=30) as client:
        remote = RemotePolicy(client)

        def act(observations: Lists) -> Lists:
            nonlocal asked
            begun = time.perf_counter()
            actions = remote.act(observations)
            asked += time.perf_counter() - begun
            return actions

        begun = time.perf_counter()
        over_http = evaluate(original.drive(env, act, progress=True), service)
        took = time.perf_counter() - begun
    policy = load_policy(folder / "best.pt", Community.from_citylearn(dataset.load(source)))
    own = evaluate(original.rollout(source, policy, end=end)[0], service)
    found, wanted = over_http.value.to_numpy(), own.value.to_numpy()
    assert over_http.kpi.equals(own.kpi) and (np.isnan(found) == np.isnan(wanted)).all()
    difference = float(np.nanmax(np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))))
    return {"year_kpi_difference": difference, "year_s": round(took, 1), "year_http_share": round(asked / took, 3)}


def soak(folder: Path, body: bytes, rate: float, seconds: float) -> int:
    """A fixed rate for long: 1 if a request failed or memory grew by more than a tenth."""
    failed, first, begun = 0, 0.0, time.monotonic()
    with load.served(folder) as (url, _, _):
        while (left := seconds - (time.monotonic() - begun)) > 0:
            result = load.open_loop(url, body, rate, min(30.0, left))
            memory = load.resident_mb(url)
            first = first or memory
            failed += result.failed
            print(
                f"{time.monotonic() - begun:5.0f} s  {result.achieved:.0f}/s  p50 {result.quantile(0.5):.2f} ms  "
                f"p99 {result.quantile(0.99):.2f} ms  failed {failed}  {memory:.0f} MB",
                flush=True,
            )
    grown = not memory <= 1.1 * first  # a system that does not tell (NaN) shows nothing
    told = "memory grew by more than a tenth, or is not told" if grown else "memory kept"
    print(told, f"and {failed} requests failed")
    return int(failed > 0 or grown)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--output", type=Path, help="file for that object and what made it (default: none)")
    parser.add_argument("--year", action="store_true", help="CityLearn's year over HTTP as well (minutes)")
    parser.add_argument("--model", type=Path, default=paths.ROOT / "models" / "broadcast", help="folder of policy.onnx")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the load at each fixed rate (default: 10)")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of a fixed rate instead (default: none)")
    parser.add_argument("--rate", type=float, default=300.0, help="of the soak, requests a second (default: 300)")
    args = parser.parse_args()
    try:
        policy = ServedPolicy(args.model / "policy.onnx")
        source = dataset.find(policy.card["edition"]) if args.year else None
    except ModelError as error:
        print(f"error: {args.model}: {error}; export a trained policy to it first", file=sys.stderr)
        return 1
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    body = load.request_body(observed(policy))
    if args.soak:
        return soak(args.model, body, args.rate, args.soak)
    observations = policy.pack(observed(policy))
    inference = load.inference_seconds(policy, observations, 5000) * 1e6
    print(f"{policy.version}, one thread an inference")
    print(f"inference            p50 {np.quantile(inference, 0.5):.0f} us  p99 {np.quantile(inference, 0.99):.0f} us")
    with load.served(args.model) as (url, ready, _):
        print(f"ready after          {ready:.2f} s")
        load.open_loop(url, body, 200, 1.0)  # warm
        fixed = {}
        for rate in (100, 500, 1000):
            fixed[rate] = result = load.open_loop(url, body, rate, args.seconds)
            print(
                f"request at {rate:5d}/s    p50 {result.quantile(0.5):.2f} ms  p99 {result.quantile(0.99):.2f} ms  "
                f"failed {result.failed}"
            )
        highest, _ = load.saturation(url, body)
        print(f"highest rate         {highest:.0f}/s (whole, 99 % within 100 ms)")
        memory = load.resident_mb(url)
        print(f"resident memory      {memory:.0f} MB")
    image = image_mb()
    print(f"image                {'not measured: no container engine with the image here' if image is None else image}")
    figures: dict[str, float | None] = {
        "inference_p50_us": round(float(np.quantile(inference, 0.5)), 1),
        "request_p50_ms_at_500": round(fixed[500].quantile(0.5), 3),
        "request_p99_ms_at_500": round(fixed[500].quantile(0.99), 3),
        "saturation_rps": round(highest),
        "rss_mb": round(memory, 1),
        "ready_s": round(ready, 2),
        "image_mb": None if image is None else round(image, 1),
    }
    different = False
    if source:
        found = year(args.model, source)
        different = found["year_kpi_difference"] > SAME
        print(
            f"CityLearn's year     {found['year_s']:.0f} s, {found['year_http_share']:.1%} of it in HTTP; KPIs "
            f"{'DIFFER from' if different else 'equal'} those in process, largest difference "
            f"{found['year_kpi_difference']:.1e} (bound {SAME:.0e})"
        )
        figures |= found
    if args.output:
        settings = {"model": policy.version, "seconds": args.seconds}
        write_json_atomic(args.output, run_record(settings, source, seeds=[policy.card["seed"]], figures=figures))
    if args.json:
        print(json.dumps(figures))
    return int(different)


if __name__ == "__main__":
    sys.exit(main())
