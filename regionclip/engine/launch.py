"""Several processes that share a stage under torch's elastic launcher: their start, their group and their end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from regionclip import runtime
from regionclip.errors import FAULT, DataCheckFailed, InputError, Interrupted

# The launcher would give processes that it starts again the store of those before, with their addresses; they would
# wait for the dead (pytorch/pytorch#135712).
_OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
# The launcher calls each stage that fails a failure; these say themselves what they are.
_SPEAKING = (DataCheckFailed.exit_code, InputError.exit_code, Interrupted.exit_code, FAULT)
# How long the others wait for the first, which alone measures and writes. The launcher ends them when a process dies.
_PATIENCE = timedelta(hours=12)


def sharable(stage: str) -> bool:
    """Whether processes on this machine's devices can share the stage; the teacher trains batch norm.

    PyTorch shares the statistics of batch norm on CUDA only.
    """
    return stage != "teacher" or runtime.device().type == "cuda"


def launch(arguments: Sequence[str]) -> int:
    """Run ``regionclip ARGUMENTS`` in ``REGIONCLIP_PROCESSES`` processes on this machine.

    ``REGIONCLIP_TORCHRUN`` adds arguments of ``torchrun``, such as those that name the other machines.

    Returns:
        The stage's exit code; 128 and the signal's number when a signal ended a process.

    Raises:
        InputError: There are fewer GPUs than processes, or one is named for all.
        Interrupted: The launcher was told to end, and has let the processes save a resume point.
    """
    _check_devices()
    options = runtime.torchrun_options()
    if not any(option.startswith(("--nnodes", "--rdzv", "--master", "--node")) for option in options):
        options = ["--standalone", *options]
    os.environ.setdefault(_OWN_STORE, "1")
    try:
        run(parse_args([*options, f"--nproc_per_node={runtime.processes()}", "-m", "regionclip", *arguments]))
    except ChildFailedError as error:
        return exit_code([failure.exitcode for failure in error.failures.values()])
    except SignalException as error:
        raise Interrupted(str(error)) from None
    return 0


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


def _check_devices() -> None:
    device, processes = runtime.device(), runtime.processes()
    if device.type != "cuda" or processes == 1:
        return
    if device.index is not None:
        problem, mend = f"{device} cannot serve {processes} processes", "set it to cuda; each process takes its own GPU"
        raise InputError(problem, key="REGIONCLIP_DEVICE", mend=mend)
    if (there := torch.cuda.device_count()) < processes:
        mend = "run one process a GPU"
        raise InputError(f"{processes} processes for {there} GPUs", key="REGIONCLIP_PROCESSES", mend=mend)


def exit_code(codes: Sequence[int]) -> int:
    """Return the exit code of the processes together; one that lost its neighbour ends with 1 and tells nothing.

    Args:
        codes: Of the processes that failed, negative for a signal.
    """
    code = next((code for code in _SPEAKING if code in codes), None) or min(codes)
    return code if code >= 0 else 128 - code
