"""CLIPs: the folders that open_clip reads with its ``local-dir:`` schema, models built of them, and their text side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import text_global_pool
from pydantic import ValidationError

from regionclip.checkpoints.containers import Container, read_container, refuse_non_finite, save_tensors
from regionclip.checkpoints.loading import Uninitialised, load_strictly, require_fit
from regionclip.errors import InputError
from regionclip.files import atomic_dir, read_json, sha256_file, write_json
from regionclip.params.section import Relation
from regionclip.params.stages import ClipArchitecture, TextTower, VisionTower

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_MEND = "write the folder again"
# Names that open_clip looks for, in this order; without them, any file of these kinds.
_NAMES = (
    WEIGHTS, "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth",
    "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
_KINDS = (".safetensors", ".bin", ".pth")
# What a tower must not have, and timm's models that may be one.
_FOREIGN = (
    "hf_model_name", "attentional_pool", "block_type", "qk_norm", "scaled_cosine_attn", "scale_heads",
    "scale_attn_inner", "scale_attn", "scale_fc",
)  # fmt: skip
_TIMM = ("eva02_base", "eva02_large", "convnext")
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


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
            InputError: The folder is incomplete, or holds a CLIP with a tower that gives no dense features here.
        """
        path = Path(path)
        model_cfg = _section(read_json(path / CONFIG), "model_cfg", path)
        towers = [_section(model_cfg, f"model_cfg.{name}", path) for name in ("vision_cfg", "text_cfg")]
        foreign = [key for tower in towers for key in _FOREIGN if tower.get(key)]
        trunk = towers[0].get("timm_model_name")
        foreign += ["timm_model_name"] if trunk and not str(trunk).startswith(_TIMM) else []
        if foreign:
            mend = (
                f"use a ResNet, a plain vision transformer or one of timm's {', '.join(_TIMM)}, and CLIP's text tower"
            )
            raise InputError("a tower that cannot be read densely", file=path / CONFIG, key=foreign[0], mend=mend)
        _require_bounded(model_cfg, path / CONFIG)
        return cls(path, model_cfg)

    @property
    def weights(self) -> Path:
        """Path of the weights file, the one that open_clip would take.

        Raises:
            InputError: There is none, or open_clip would choose among several by chance of their names.
        """
        there = [self.path / name for name in _NAMES if (self.path / name).is_file()]
        there = there[:1] or sorted(file for file in self.path.iterdir() if file.suffix in _KINDS)
        if len(there) != 1:
            names = f"several, {', '.join(file.name for file in there)}" if there else "none"
            mend = f"name the right one {WEIGHTS}, or {_NAMES[2]} if it is a file of torch.save"
            raise InputError(f"a CLIP folder holds one file of weights; here are {names}", file=self.path, mend=mend)
        return there[0]

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file, in hex, as it was when it was first asked for."""
        return sha256_file(self.weights)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Read the weights under open_clip's names; no code in the file is run.

        Raises:
            InputError: The file is damaged, or holds something else.
        """
        weights = self.weights
        content = read_container(weights)
        if not isinstance(content, Container):
            raise InputError("one tensor and no weights", file=weights, mend="give a CLIP's state dict")
        # Saved under DistributedDataParallel, or with a text tower of its own (`custom_text`): the same weights.
        tensors = content.tensors.items()
        state = {key.removeprefix("module.").removeprefix("text."): value for key, value in tensors}
        scale = state.get("logit_scale")
        return state if scale is None or scale.numel() != 1 else state | {"logit_scale": scale.reshape(())}

    def model(self) -> open_clip.CLIP:
        """Build the CLIP and load its weights strictly, in evaluation mode on the CPU.

        Raises:
            InputError: A weight is missing, unexpected or of another shape; the message names it. Or open_clip cannot
                build the configuration.
        """
        state = self.state_dict()
        try:
            with torch.device("meta"):
                wanted = build_clip(self.model_cfg).state_dict()
        except Exception as error:
            problem = f"open_clip builds no CLIP of it ({type(error).__name__}: {error})"
            raise InputError(problem, file=self.path / CONFIG, key="model_cfg", mend=_MEND) from None
        # Before memory is taken for what the weights may not be of.
        require_fit(wanted, state, self.weights)
        with Uninitialised():
            model = build_clip(self.model_cfg)
        load_strictly(model, state, self.weights)
        return model.eval()

    def tokenizer(self) -> open_clip.SimpleTokenizer:
        """The tokenizer with this CLIP's context length; maps a list of B strings to int64 (B, L)."""
        return open_clip.SimpleTokenizer(context_length=self.model_cfg["text_cfg"].get("context_length", 77))


def image_tower(vision_cfg: dict[str, Any]) -> str:
    """Say in words what an image tower is."""
    if timm_name := vision_cfg.get("timm_model_name"):
        return f"timm's {timm_name}"
    size = f"layers {vision_cfg['layers']}, width {vision_cfg['width']}"
    return f"{'ModifiedResNet' if isinstance(vision_cfg['layers'], list) else 'VisionTransformer'}, {size}"


def _require_bounded(model_cfg: dict[str, Any], file: Path) -> None:
    """Refuse a configuration whose sizes are none; what open_clip knows besides is left to it."""
    towers = {
        "vision_cfg": (VisionTower, open_clip.CLIPVisionCfg()),
        "text_cfg": (TextTower, open_clip.CLIPTextCfg()),
    }
    try:
        known = {
            name: {key: model_cfg[name].get(key, getattr(default, key)) for key in tower.model_fields}
            for name, (tower, default) in towers.items()
        }
        gelu = model_cfg.get("quick_gelu", False)
        ClipArchitecture.model_validate({"embed_dim": model_cfg["embed_dim"], "quick_gelu": gelu, **known})
    except ValidationError as error:
        first = error.errors()[0]
        relation = first.get("ctx", {}).get("error")
        place = [relation.key] if isinstance(relation, Relation) and relation.key else []
        key = ".".join(map(str, ("model_cfg", *first["loc"], *place)))
        raise InputError(f"{first['msg']} (it is {first['input']!r:.60})", file=file, key=key, mend=_MEND) from None
    except (KeyError, TypeError) as error:
        raise InputError(f"a size is missing ({error})", file=file, key="model_cfg", mend=_MEND) from None


def _section(config: Any, key: str, folder: Path) -> dict[str, Any]:
    found = config.get(key.rpartition(".")[2]) if isinstance(config, dict) else None
    if not isinstance(found, dict):
        problem = "the key is missing" if found is None else f"no section, but {found!r:.60}"
        raise InputError(problem, file=folder / CONFIG, key=key, mend="give a folder that open_clip wrote")
    return found


def encode_text(clip: torch.nn.Module, text: torch.Tensor, normalize: bool = False) -> torch.Tensor:
    """Encode prompts as ``open_clip.CLIP.encode_text`` does, without the tokens behind the last end token.

    The text tower is causal, so they reach nothing: the same features up to rounding, in a fraction of the time.

    Args:
        clip: open_clip's CLIP, or what has its text modules under their own names.
        text: Tokens (B, L) int64; a prompt ends with its highest token.
        normalize: Whether features get norm 1.

    Returns:
        (B, D).
    """
    length = text.shape[1]
    if clip.text_pool_type == "argmax" and clip.attn_mask is not None:
        length = int(text.argmax(dim=-1).max()) + 1
    text, dtype = text[:, :length], clip.transformer.get_cast_dtype()
    tokens = clip.token_embedding(text).to(dtype) + clip.positional_embedding[:length].to(dtype)
    mask = None if clip.attn_mask is None else clip.attn_mask[:length, :length]
    tokens = clip.ln_final(clip.transformer(tokens, attn_mask=mask))
    features = text_global_pool(tokens, text, clip.text_pool_type, eos_token_id=clip.text_eos_id)
    projection = clip.text_projection
    if projection is not None:
        features = projection(features) if isinstance(projection, torch.nn.Linear) else features @ projection
    return torch.nn.functional.normalize(features, dim=-1) if normalize else features


class _Clip(open_clip.CLIP):
    # open_clip's own adds the positional embedding of all tokens, and so wants prompts of full length.
    encode_text = encode_text


def build_clip(model_cfg: dict[str, Any]) -> open_clip.CLIP:
    """Build an open_clip CLIP from its configuration, with fresh weights; nothing is fetched."""
    vision = {**model_cfg["vision_cfg"]}
    vision |= {"timm_model_pretrained": False} if vision.get("timm_model_name") else {}
    return _Clip(**{key: value for key, value in model_cfg.items() if key != "custom_text"} | {"vision_cfg": vision})


def save_clip(
    path: str | Path, model_cfg: dict[str, Any], state: dict[str, torch.Tensor], lineage: dict[str, str]
) -> None:
    """Write a CLIP folder, atomically.

    Args:
        path: The folder.
        model_cfg: open_clip's model configuration.
        state: Weights under open_clip's names.
        lineage: Hashes of what made the weights; kept in the weights file's metadata.

    Raises:
        InputError: A weight is not finite.
    """
    refuse_non_finite(state, path)
    size = model_cfg["vision_cfg"]["image_size"]
    preprocess = {
        "size": [size, size], "mode": "RGB", "mean": list(MEAN), "std": list(STD),
        "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
    }  # fmt: skip
    with atomic_dir(path) as beside:
        write_json(beside / CONFIG, {"model_cfg": model_cfg, "preprocess_cfg": preprocess})
        tensors = {key: value.detach().cpu().contiguous() for key, value in sorted(state.items())}
        save_tensors(tensors, beside / WEIGHTS, metadata={"format": "pt", **lineage})
