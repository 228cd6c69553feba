"""Region-text pretraining: 600,000 steps of 96 pictures, SGD 0.002, each gradient tensor clipped at a norm of 5."""

train_cfg = dict(type="ResumableIterBasedTrainLoop", max_iters=600000)
optim_wrapper = dict(
    type="PerParameterClipOptimWrapper",
    optimizer=dict(type="SGD", lr=0.002, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", by_epoch=False, milestones=[300000, 525000], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=96)
