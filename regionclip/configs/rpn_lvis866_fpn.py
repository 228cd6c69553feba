"""The offline RPN of pretraining and zero-shot detection: ResNet-50 FPN on the boxes of LVIS's base classes."""

_base_ = [
    "./rpn_r50_fpn.py",
    "./_base_/datasets/lvis_rpn.py",
    "./_base_/schedules/rpn_180k.py",
    "./_base_/runtime.py",
]

custom_imports = dict(imports=["regionclip.engine.components"])
model = dict(
    # MSRA's ImageNet weights under MMDetection's names.
    backbone=dict(init_cfg=dict(_delete_=True, type="Pretrained", checkpoint="weights/resnet50_msra.pth")),
    # Zero-shot detection looks at proposals that overlap more than those of other tests (0.7).
    test_cfg=dict(rpn=dict(nms=dict(iou_threshold=0.9))),
)
