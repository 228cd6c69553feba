"""Everything that the MMEngine configs name, registered by one import, and MMEngine's checkpoint reader made safe."""

from regionclip.checkpoints.training_state import register_safe_loader
from regionclip.data.datasets import image_text, named_boxes_dataset, samplers, transforms  # noqa: F401
from regionclip.engine import loops, per_parameter_clip, strict_load_hook, vocabulary_hook  # noqa: F401
from regionclip.models import clip_pretrained_init  # noqa: F401

# MMDetection's tools read checkpoints through MMEngine, whose own reader (0.10.7) cannot read MMEngine's checkpoints
# without running the code in them.
register_safe_loader()
