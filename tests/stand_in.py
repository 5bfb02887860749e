"""A stand-in for a GPU: tensors that say they are elsewhere and compute on the CPU, and refuse to meet those here.

Code that mixes devices fails with it as on a GPU, and what it computes is the same to the last bit. The device is
called ``meta``, which torch can differentiate on; only CUDA's own kernels, streams and compiler are beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")


class There(torch.Tensor):
    """Holds a tensor of the CPU and says that it is elsewhere."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> There:
        about = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.size(), device=DEVICE, **about)
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return compute(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.held.tolist()


class Elsewhere(TorchDispatchMode):
    """Takes what is made on `DEVICE`, and checks every call."""

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return compute(function, args, kwargs or {})


def compute(function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Call ``function`` on what is held, and say of the result where it is.

    Raises:
        RuntimeError: tensors of both places meet. As on a GPU, a number (no dimensions) may come from the CPU, an index
            too where what it reads is there, and ``copy_`` goes from one to the other.
    """
    name, tensors = str(function), list(leaves(args)) + list(leaves(kwargs.values()))
    here = [leaf for leaf in tensors if type(leaf) is not There]
    goes = len(here) < len(tensors)
    if goes and any(leaf.dim() for leaf in here):
        indexes = name.startswith(("aten.index.", "aten.index_put", "aten._index_put", "aten._unsafe_index"))
        if "copy_" not in name and not (indexes and type(args[0]) is There):
            raise RuntimeError(f"{name}: tensors on two devices, here of shapes {[tuple(leaf.shape) for leaf in here]}")
    if kwargs.get("device") is not None:
        goes, kwargs = torch.device(kwargs["device"]) == DEVICE, kwargs | {"device": torch.device("cpu")}
    result = function(*held(args), **{key: held(value) for key, value in kwargs.items()})
    if function._schema.is_mutable and isinstance(result, torch.Tensor):
        return args[0]  # changed in place
    return moved(result) if goes else result


def leaves(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The tensors among arguments; by hand, for this runs at every call."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from leaves(value)


def held(value: Any) -> Any:
    """What a tensor, or those in a list or tuple, hold."""
    if type(value) is There:
        return value.held
    return type(value)(map(held, value)) if type(value) in (list, tuple) else value


def moved(value: Any) -> Any:
    """The other way round."""
    if isinstance(value, torch.Tensor):
        return There(value)
    return type(value)(map(moved, value)) if type(value) in (list, tuple) else value


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """While it is open, tensors can be moved to the device that it gives."""
    tensor, autocast = torch.tensor, torch.autocast

    def made(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:  # torch.tensor fills nothing on `meta`
        return tensor(*args, **kwargs) if device is None else tensor(*args, **kwargs).to(device)

    def cast(kind: str, *args: Any, **kwargs: Any) -> torch.autocast:
        return autocast("cpu" if kind == DEVICE.type else kind, *args, **kwargs)

    with mock.patch("torch.tensor", made), mock.patch("torch.autocast", cast), Elsewhere():
        yield DEVICE
