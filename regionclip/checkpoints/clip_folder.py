"""CLIP folders: what open_clip reads with its ``local-dir:`` schema; teacher and student are kept in this form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.tensors import save_tensors
from regionclip.errors import InputError
from regionclip.files import atomic_dir, read_json, sha256_file, write_json

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipFolder:
    """A CLIP on disk.

    Attributes:
        path: The folder.
        model_cfg: open_clip's model configuration (``embed_dim``, ``vision_cfg``, ``text_cfg``, ``quick_gelu``).
    """

    path: Path
    model_cfg: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> ClipFolder:
        """Read the configuration of the folder at ``path``.

        Raises:
            InputError: The folder is incomplete, or holds a CLIP whose image tower is no ModifiedResNet.
        """
        path = Path(path)
        config = read_json(path / CONFIG)
        if "model_cfg" not in config:
            raise InputError("the key is missing", file=path / CONFIG, key="model_cfg", mend="write the folder again")
        layers = config["model_cfg"].get("vision_cfg", {}).get("layers")
        if not isinstance(layers, list):
            raise InputError(
                f"the image tower is not a CLIP ResNet (layers is {layers!r})",
                file=path / CONFIG,
                key="model_cfg.vision_cfg.layers",
                mend="use a CLIP with a ModifiedResNet, such as RN50 or RN50x4",
            )
        return cls(path, config["model_cfg"])

    @property
    def weights(self) -> Path:
        """Path of the weights file."""
        return self.path / WEIGHTS

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file, in hex."""
        return sha256_file(self.weights)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Read the weights under open_clip's names."""
        try:
            return load_file(self.weights)
        except (FileNotFoundError, SafetensorError) as error:
            raise InputError(
                f"unreadable weights ({error})", file=self.weights, mend="write the folder again"
            ) from None

    def model(self) -> open_clip.CLIP:
        """Build the CLIP and load its weights strictly, in evaluation mode on the CPU.

        Raises:
            InputError: A weight is missing, unexpected or of another shape; the message names it.
        """
        model = build_clip(self.model_cfg)
        load_strictly(model, self.state_dict(), self.weights)
        return model.eval()

    def tokenizer(self) -> open_clip.SimpleTokenizer:
        """The tokenizer with this CLIP's context length; maps a list of B strings to int64 (B, L)."""
        return open_clip.SimpleTokenizer(context_length=self.model_cfg["text_cfg"]["context_length"])

    def temperature(self) -> float:
        """The learned softmax temperature, 1 / exp(logit_scale)."""
        return float(torch.exp(-self.state_dict()["logit_scale"].float()))


def build_clip(model_cfg: dict[str, Any]) -> open_clip.CLIP:
    """Build an open_clip CLIP from its configuration, with fresh weights."""
    return open_clip.CLIP(**{key: value for key, value in model_cfg.items() if key != "custom_text"})


def save_clip(
    path: str | Path, model_cfg: dict[str, Any], state: dict[str, torch.Tensor], lineage: dict[str, str]
) -> None:
    """Write a CLIP folder, atomically.

    Args:
        path: The folder.
        model_cfg: open_clip's model configuration.
        state: Weights under open_clip's names.
        lineage: Hashes of what made the weights; kept in the weights file's metadata.
    """
    size = model_cfg["vision_cfg"]["image_size"]
    preprocess = {
        "size": [size, size], "mode": "RGB", "mean": list(MEAN), "std": list(STD),
        "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
    }  # fmt: skip
    with atomic_dir(path) as beside:
        write_json(beside / CONFIG, {"model_cfg": model_cfg, "preprocess_cfg": preprocess})
        tensors = {key: value.detach().cpu().contiguous() for key, value in sorted(state.items())}
        save_tensors(tensors, beside / WEIGHTS, metadata={"format": "pt", **lineage})
