"""What makes several processes train as one would on the joint batch: one canvas, one set of losses, one batch norm."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from regionclip import runtime
from regionclip.errors import InputError


def share_of_batch(batch_size: int) -> int:
    """Return the pictures of each process, which together are the schedule's batch.

    Raises:
        InputError: They cannot have the same number.
    """
    processes = get_world_size()
    if batch_size % processes:
        problem = f"a batch of {batch_size} cannot be dealt evenly to {processes} processes"
        mend = "run as many processes as divide it, or change the batch"
        raise InputError(problem, file="params.yaml", key="schedule.batch_size", mend=mend)
    return batch_size // processes


def wrapping(model: BaseModel) -> dict[str, Any]:
    """Return what the Runner needs to train ``model`` in several processes; nothing where there is one.

    The processes pad their pictures to one canvas, and batch norm that trains gets the statistics of all.

    Raises:
        InputError: Batch norm trains, and the device has no shared one (PyTorch's works on CUDA only).
    """
    if get_world_size() == 1:
        return {}
    preprocessor = model.data_preprocessor
    if hasattr(preprocessor, "batch_augments"):
        preprocessor.batch_augments = nn.ModuleList([*(preprocessor.batch_augments or []), JointCanvas(preprocessor)])
    # On the CPU a module has no device number, which MMEngine would give by default.
    devices = [runtime.device().index] if runtime.device().type == "cuda" else None
    wrapper = {"type": "MMDistributedDataParallel", "device_ids": devices, "broadcast_buffers": False}
    settings: dict[str, Any] = {"launcher": "pytorch", "cfg": {"model_wrapper_cfg": wrapper}}
    if any(isinstance(module, _BatchNorm) and module.training for module in model.train().modules()):
        if devices is None:
            problem = "batch norm trains here, and processes on the CPU cannot share its statistics"
            raise InputError(problem, key="REGIONCLIP_PROCESSES", mend="run this stage in one process, or on CUDA")
        settings["cfg"]["sync_bn"] = "torch"
    return settings


def unwrapped(runner: Runner) -> BaseModel:
    """Return the model that a Runner trains, out of what `wrapping` put around it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


class JointCanvas(nn.Module):
    """Pads a batch of MMDetection's preprocessor to the largest pictures of all processes, masks too.

    Features near the edge depend on the padding. One process pads all pictures of the batch to one size. It is a batch
    augmentation of the ``DetDataPreprocessor`` that it is given.
    """

    def __init__(self, preprocessor: nn.Module) -> None:
        super().__init__()
        self.values = {"image": preprocessor.pad_value, "mask": preprocessor.mask_pad_value}
        self.pad_mask = preprocessor.pad_mask

    def forward(self, inputs: Tensor, data_samples: list[Any]) -> tuple[Tensor, list[Any]]:
        """Pad ``inputs`` (B, 3, H, W) and the masks of ``data_samples`` on the right and below."""
        size = torch.tensor(inputs.shape[-2:])
        all_reduce(size, "max")
        height, width = size.tolist()
        inputs = F.pad(inputs, (0, width - inputs.shape[-1], 0, height - inputs.shape[-2]), value=self.values["image"])
        for sample in data_samples:
            sample.set_metainfo({"batch_input_shape": (height, width)})
            if self.pad_mask and "masks" in sample.gt_instances:
                sample.gt_instances.masks = sample.gt_instances.masks.pad((height, width), pad_val=self.values["mask"])
        return inputs, data_samples


@HOOKS.register_module()
class JointLossHook(Hook):
    """Give the hooks behind it the losses of the joint batch: the mean over the processes."""

    priority = "VERY_HIGH"

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Replace each number in ``outputs`` by its mean."""
        if get_world_size() == 1 or not outputs:
            return
        values = torch.stack([torch.as_tensor(value).detach().double().reshape(()).cpu() for value in outputs.values()])
        all_reduce(values, "mean")
        outputs.update(zip(outputs, values, strict=True))
