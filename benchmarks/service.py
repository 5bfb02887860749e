"""Speed of the service: the model alone, a request at a fixed rate, the highest rate, memory, start-up.

    python benchmarks/service.py [--json] [--model models/broadcast] [--seconds 10]
    python benchmarks/service.py --soak 600 --rate 300

Service and client are processes of their own on this machine. Requests leave when they are due (open loop), and their
times count from then. The image is measured where a container engine has it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from thesis_lib import paths
from thesis_lib.serving import load
from thesis_lib.serving.policy import ModelError, ServedPolicy

IMAGE = "maddpg-serve"


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
    grown = memory > 1.1 * first
    print("memory grew by more than a tenth" if grown else "memory kept", f"and {failed} requests failed")
    return int(failed > 0 or grown)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--model", type=Path, default=paths.ROOT / "models" / "broadcast", help="folder of policy.onnx")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the load at each fixed rate (default: 10)")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of a fixed rate instead (default: none)")
    parser.add_argument("--rate", type=float, default=300.0, help="of the soak, requests a second (default: 300)")
    args = parser.parse_args()
    try:
        policy = ServedPolicy(args.model / "policy.onnx")
    except ModelError as error:
        print(f"error: {args.model}: {error}; export a trained policy to it first", file=sys.stderr)
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
    if args.json:
        figures = {
            "inference_p50_us": round(float(np.quantile(inference, 0.5)), 1),
            "request_p50_ms_at_500": round(fixed[500].quantile(0.5), 3),
            "request_p99_ms_at_500": round(fixed[500].quantile(0.99), 3),
            "saturation_rps": round(highest),
            "rss_mb": round(memory, 1),
            "ready_s": round(ready, 2),
            "image_mb": None if image is None else round(image, 1),
        }
        print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
