"""LVIS v1 for an RPN: training on the boxes of 866 base classes; the test writes a region store."""

_base_ = "./lvis_classes.py"

train_pipeline = [_base_.load_image, _base_.load_boxes, *_base_.random_resize_and_flip, _base_.pack]
test_pipeline = [_base_.load_image, _base_.load_boxes, *_base_.resize, _base_.pack]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type="ClassBalancedDataset",
        oversample_thr=1e-3,
        dataset=dict(
            type="NamedBoxesDataset",
            metainfo=dict(classes=_base_.LVIS_BASE),
            ann_file="data/lvis/annotations/lvis_v1_train_base866.json",
            data_prefix=dict(img="datasets/coco/"),
            filter_cfg=dict(filter_empty_gt=True, min_size=0),
            pipeline=train_pipeline,
        ),
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="NamedBoxesDataset",
        metainfo=dict(classes=_base_.LVIS_ALL),
        ann_file="datasets/lvis/lvis_v1_val.json",
        data_prefix=dict(img="datasets/coco/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(
    type="StoreProposals", store="data/proposals/zero_shot_lvis_val", metadata=dict(config="rpn_lvis866_fpn")
)
test_cfg = dict(type="TestLoop")
