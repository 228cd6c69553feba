"""The open-vocabulary Fast R-CNN of RN50, started from RegionCLIP's weights, tested with soft-NMS."""

_base_ = "../../ov_fast_rcnn_clip_rn50_c4.py"

custom_imports = dict(imports=["regionclip.engine.components"])
model = dict(
    init_cfg=dict(type="CLIPPretrained", folder="weights/regionclip_rn50"),
    # The official evaluation scripts switch soft-NMS on, for COCO and for LVIS.
    test_cfg=dict(
        rcnn=dict(nms=dict(type="soft_nms", method="gaussian", sigma=0.5, iou_threshold=0.5, min_score=0.001))
    ),
)
