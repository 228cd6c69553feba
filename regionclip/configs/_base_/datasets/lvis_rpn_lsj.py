"""LVIS v1 for an RPN with large-scale jittering: scale 0.1 to 2 of 1024 pixels, then a crop of that size."""

_base_ = "./lvis_rpn.py"

train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type="RandomResize", scale=(1024, 1024), ratio_range=(0.1, 2.0), resize_type="ResizeWithin", backend="pillow"),
    dict(
        type="RandomCrop",
        crop_type="absolute",
        crop_size=(1024, 1024),
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type="RandomFlip", prob=0.5),
    _base_.pack,
]
# The crop makes all pictures alike, so they are not grouped by their sides.
train_dataloader = dict(batch_size=8, dataset=dict(dataset=dict(pipeline=train_pipeline)))
test_evaluator = dict(store="data/proposals/lvis_val", metadata=dict(config="rpn_lvis866_lsj"))
