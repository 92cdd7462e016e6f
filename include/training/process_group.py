"""torch's process group of the ranks of a training; Lightning finds it and makes none of its own."""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch._C._distributed_c10d import PrefixStore, TCPStore  # where torch.distributed has them from, with types

if TYPE_CHECKING:
    from include.training.ranks import Rank


@contextmanager
def process_group(rank: Rank, accelerator: str = "auto") -> Iterator[None]:
    """The group while the rank works. Ranks of one machine meet in a file, so that no port is opened; those of several
    nodes in the store of node 0.

    Args:
        accelerator: As the spec says: NCCL is for tensors on GPUs, where there are any and they are to be used; else
            it is gloo.
    """
    torch.set_num_threads(rank.threads)
    names = {
        "LOCAL_RANK": rank.local,
        "NODE_RANK": rank.node,
        "WORLD_SIZE": rank.world,
        "MASTER_ADDR": rank.meeting.host if rank.meeting else "127.0.0.1",
        "MASTER_PORT": rank.meeting.port if rank.meeting else 0,
        "OMP_NUM_THREADS": rank.threads,  # where it is not set, Lightning takes all cores for each node's ranks
    }
    os.environ.update({name: str(value) for name, value in names.items()})
    if rank.world == 1:
        yield
        return
    backend = "gloo"
    if accelerator != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(rank.local)
        backend = "nccl"
    distributed.init_process_group(backend, **_place(rank), rank=rank.number, world_size=rank.world)
    yield
    distributed.destroy_process_group()


def _place(rank: Rank) -> dict[str, Any]:
    if rank.meeting is None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
        return {"init_method": f"file://{rank.scratch / 'rendezvous'}"}
    interface = _interface(rank.meeting.address)
    if interface:  # else they look for the address of the machine's name, which need not be known, or be the right one
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    store = TCPStore(rank.meeting.host, rank.meeting.port, wait_for_workers=False)
    return {"store": PrefixStore(f"ranks/{rank.meeting.gang}", store)}


def _interface(address: str) -> str | None:
    """Name of the network interface that has this address."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] == address for entry in addresses):
            return name
    return None
