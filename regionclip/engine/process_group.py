"""The group of processes that share one stage under torch's elastic launcher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch

from regionclip import runtime
from regionclip.errors import Interrupted

# How long the others wait for the first, which alone measures and writes. The launcher ends them when a process dies.
_PATIENCE = timedelta(hours=12)


@contextmanager
def process_group() -> Iterator[None]:
    """Join the group that the launcher's environment describes: NCCL on CUDA, gloo on the CPU.

    All leave it together, also when the training was interrupted, because the launcher ends all when one ends. After
    another error nobody waits: the process that failed ends first, with its own exit code.
    """
    device = runtime.device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    except Interrupted:
        torch.distributed.barrier()
        raise
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
