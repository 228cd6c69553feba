"""Counts iterations, not epochs; keeps two checkpoints; refuses a checkpoint that does not fit."""

_base_ = "mmdet::_base_/default_runtime.py"

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=2),
    strict_load=dict(type="StrictLoadHook"),
)
log_processor = dict(by_epoch=False)
