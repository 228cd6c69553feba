"""The offline RPN of LVIS: ResNet-50 FPN from scratch with large-scale jittering, on the boxes of base classes."""

_base_ = [
    "./rpn_r50_fpn_lsj.py",
    "./_base_/datasets/lvis_rpn_lsj.py",
    "./_base_/schedules/rpn_lsj_400ep.py",
    "./_base_/runtime.py",
]

custom_imports = dict(imports=["regionclip.engine.components"])
