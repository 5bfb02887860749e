"""Which processor runs the networks: resolve a name, or say in one line why not."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


class DeviceError(ValueError):
    """The device asked for does not exist here."""


@dataclass(frozen=True)
class Device:
    """A processor."""

    torch: str  # what torch.device understands: "cpu", "cuda:0", "mps"
    name: str  # the processor's own name
    memory_gb: float | None  # its memory; None where it cannot be told

    def record(self) -> dict:
        """The same as a plain dictionary: torch, name, memory_gb."""
        return asdict(self)


def resolve(device: str) -> Device:
    """Find the device called ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` takes CUDA if there is one and the CPU otherwise. MPS has to be asked for by name: with networks
    this small it is slower than the CPU beside it.

    Raises:
        DeviceError: unknown name, or a device that this machine or this build of PyTorch does not have.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind == "cpu" and not index:
        return Device("cpu", _cpu_name(), _cpu_memory_gb())
    if kind == "cuda" and (not index or index.isdigit()):
        if not torch.cuda.is_available():
            raise DeviceError(f"device {device!r}: this PyTorch sees no CUDA GPU; use device: cpu or auto")
        number, count = int(index or 0), torch.cuda.device_count()
        if number >= count:
            raise DeviceError(f"device {device!r}: there are {count} CUDA GPUs, numbered from 0")
        properties = torch.cuda.get_device_properties(number)
        return Device(f"cuda:{number}", properties.name, round(properties.total_memory / 2**30, 1))
    if kind == "mps" and not index:
        if not torch.backends.mps.is_available():
            raise DeviceError("device 'mps': this machine or this PyTorch has no Apple GPU; use device: cpu")
        return Device("mps", "Apple GPU", None)
    raise DeviceError(f"unknown device {device!r}: use auto, cpu, cuda, cuda:N or mps")


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_memory_gb() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
