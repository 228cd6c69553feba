"""Says what a weight file is: kind, architecture, tensors by module, embeddings, and what can be made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table
from torch import Tensor

from regionclip.checkpoints.clip_folder import ClipFolder, image_tower
from regionclip.checkpoints.containers import Container, read_container
from regionclip.checkpoints.kinds import KINDS, describe_foreign, kind_of
from regionclip.checkpoints.official import BOX, OfficialCheckpoint
from regionclip.errors import InputError
from regionclip.files import parse_json, sha256_file


@dataclass(frozen=True)
class Description:
    """What a file is.

    Attributes:
        facts: Name and value, in the order to show.
        tensors: By name, for the table.
        commands: What can be done with it, each with a remark.
    """

    facts: dict[str, str]
    tensors: Mapping[str, Tensor]
    commands: list[str] = field(default_factory=list)

    def table(self) -> Table:
        """Return tensors, parameters and types by module (the first two pieces of a name, without the tensor's own)."""
        tensors: Counter[str] = Counter()
        numbers: Counter[str] = Counter()
        types: dict[str, set[str]] = {}
        for key, value in self.tensors.items():
            module = ".".join(key.split(".")[:-1][:2]) or "(top)"
            tensors[module] += 1
            numbers[module] += value.numel()
            types.setdefault(module, set()).add(str(value.dtype).removeprefix("torch."))
        table = Table("module", show_footer=True)
        table.columns[0].footer, table.columns[0].overflow = "all", "fold"
        for name, counts in (("tensors", tensors), ("numbers", numbers)):
            table.add_column(name, footer=f"{counts.total():,}", justify="right", no_wrap=True)
        table.add_column("type")
        for module in tensors:
            table.add_row(module, f"{tensors[module]:,}", f"{numbers[module]:,}", ", ".join(sorted(types[module])))
        return table


def inspect(path: str | Path) -> Description:
    """Describe a weight file or a CLIP folder.

    Raises:
        InputError: It is missing or damaged, could run code, or is a known kind with a tensor missing or too many.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(ClipFolder.open(path))
    content = read_container(path)
    facts = {"file": str(path), "sha256": sha256_file(path)}
    if isinstance(content, Tensor):
        return _of_embeddings(facts, content)
    facts |= {"beside the weights": ", ".join(content.beside)} if content.beside else {}
    kind = kind_of(content.tensors)
    if kind is None:
        return _of_other(facts, content)
    return _of_official(facts, OfficialCheckpoint.from_state(content.tensors, path, kind))


def _of_folder(clip: ClipFolder) -> Description:
    visual = clip.model_cfg["vision_cfg"]
    facts = {
        "folder": str(clip.path),
        "sha256": clip.weights_sha256,
        "what": "a CLIP folder of open_clip",
        "image tower": image_tower(visual),
        "embedding": f"{clip.model_cfg['embed_dim']} numbers",
    }
    command = f'open_clip.create_model_from_pretrained("local-dir:{clip.path}")'
    return Description(facts, clip.state_dict(), [command])


def _of_embeddings(facts: dict[str, str], rows: Tensor) -> Description:
    facts = facts | {"what": "one array, such as text embeddings", "shape": f"{tuple(rows.shape)} {rows.dtype}"}
    if rows.ndim != 2 or not rows.numel():
        return Description(facts, {"(array)": rows})
    norms = rows.float().norm(dim=1)
    facts |= {
        "rows": f"{rows.shape[0]} of width {rows.shape[1]}",
        "norms": f"{norms.min():.4f} to {norms.max():.4f}",
    }
    command = f"regionclip convert {facts['file']} --to text-bank --names NAMES -o OUT  # a text bank of its rows"
    return Description(facts, {"(array)": rows}, [command])


def _of_other(facts: dict[str, str], content: Container) -> Description:
    metadata = content.metadata
    if "embeddings" in content.tensors and "names" in metadata:
        file = facts["file"]
        names = parse_json(metadata["names"], file=file, record="names")
        if not isinstance(names, list):
            raise InputError("no JSON list of names", file=file, key="names", mend="write the text bank again")
        shape = tuple(content.tensors["embeddings"].shape)
        facts |= {
            "what": "a text bank",
            "names": f"{len(names)}: {', '.join(map(str, names[:8]))}, ...",
            "shape": str(shape),
        }
        facts |= {"text model": metadata.get("text_model", "?")}
        return Description(facts, content.tensors)
    facts |= {"what": f"{describe_foreign(content.tensors)}; nothing that can be converted"}
    return Description(facts, content.tensors)


def _of_official(facts: dict[str, str], checkpoint: OfficialCheckpoint) -> Description:
    facts = facts | {"what": KINDS[checkpoint.kind].words, "parts": ", ".join(checkpoint.parts)}
    facts |= {"architecture": checkpoint.architecture} if checkpoint.architecture else {}
    facts |= {"proposal network": checkpoint.rpn_architecture} if "rpn" in checkpoint.parts else {}
    if "heads" in checkpoint.parts:
        heads = checkpoint.parts["heads"]
        names = {"training": f"{BOX}.cls_score.weight", "test": f"{BOX}.test_cls_score.weight"}
        shapes = [f"{name} {tuple(heads[key].shape)}" for name, key in names.items() if key in heads]
        masks = any(".mask_head." in name for name in heads)
        facts |= {"class embeddings": ", ".join(shapes), "mask head": "yes" if masks else "no"}
    reasons = Counter(checkpoint.unused.values())
    facts |= {"not used": "; ".join(f"{count} ({reason})" for reason, count in reasons.items())} if reasons else {}
    return Description(facts, checkpoint.state, _conversions(checkpoint))


def _conversions(checkpoint: OfficialCheckpoint) -> list[str]:
    """Return the commands that `convert` accepts for a checkpoint."""
    rows = (
        (("student", "text"), "--to open_clip", "a CLIP that open_clip and the stages read"),
        (("teacher", "text"), "--to open_clip --part teacher", "the CLIP that taught"),
        (("student",), "--to mmdet --part student", "backbone, layer4 and attention pool of a detector"),
        (("teacher",), "--to mmdet --part teacher", "the same of the teacher"),
        (("rpn",), "--to mmdet --part rpn", "MMDetection's RPN"),
        (("heads",), "--to mmdet --part detector", "the open-vocabulary Fast R-CNN"),
    )
    rows = rows[:1] if checkpoint.kind == "eva_clip" else rows
    command = f"regionclip convert {checkpoint.path}"
    return [f"{command} {to} -o OUT  # {words}" for parts, to, words in rows if checkpoint.parts.keys() >= set(parts)]
