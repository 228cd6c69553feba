"""Detectron2's 400-epoch schedule with large-scale jittering (``new_baselines``): 64 pictures a step, SGD 0.1."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=737500)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=4e-5))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.067, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=False, milestones=[655556, 710184], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=64)
