"""CLIPPretrained: MMEngine's way to start a model from the weights of a CLIP folder."""

from __future__ import annotations

from mmdet.registry import MODELS
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.errors import InputError
from regionclip.models.region_text_pretrainer import RegionTextPretrainer
from regionclip.models.text_tower import CLIPTextTower
from regionclip.models.visual_weights import load_visual, part_configs


@WEIGHT_INITIALIZERS.register_module()
class CLIPPretrained:
    """Fill a detector, an RPN on CLIP or a `RegionTextPretrainer` from a CLIP; use as ``init_cfg`` of the whole model.

    A detector takes backbone, layer4 and attention pool, an RPN the backbone, the pretrainer also the text tower. Every
    weight of these parts must be there and fit.

    Args:
        folder: CLIP folder, as `ClipFolder` reads it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, module: nn.Module) -> None:
        """Fill ``module``.

        Raises:
            InputError: The folder is incomplete, or its CLIP has another architecture than ``module``.
        """
        clip = ClipFolder.open(self.folder)
        whole = clip.model()
        try:
            load_visual(whole.visual.state_dict(), *_parts(module, clip))
            if getattr(module, "text_tower", None) is not None:
                module.text_tower.load_state_dict(CLIPTextTower.from_clip(whole).state_dict())
        except RuntimeError as error:
            problem = f"the CLIP does not fit the model ({' '.join(str(error).split())[:200]})"
            mend = "give the folder of a CLIP of the config's size, such as RN50 or RN50x4"
            raise InputError(problem, file=clip.weights, mend=mend) from None

    def _get_init_info(self) -> str:
        # MMEngine logs it for each parameter.
        return f"CLIPPretrained: from {self.folder}"


def _parts(module: nn.Module, clip: ClipFolder) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return backbone, layer4 and attention pool."""
    if isinstance(module, RegionTextPretrainer):
        return module.student.backbone, module.student.res5, module.student.attention_pool
    if hasattr(module, "roi_head"):
        return module.backbone, module.roi_head.shared_head, module.roi_head.bbox_head.attention_pool
    # The parts that an RPN lacks are built and dropped.
    parts = part_configs(clip.model_cfg["vision_cfg"], clip.model_cfg["embed_dim"])
    return module.backbone, MODELS.build(parts["res5"]), MODELS.build(parts["attention_pool"])
