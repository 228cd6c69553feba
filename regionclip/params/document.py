"""The whole of params.yaml: read, checked, and checked for sections that contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import yaml
from pydantic import Field, ValidationError, model_validator

from regionclip.errors import InputError
from regionclip.params.data import CheckData, Data, Quarantine
from regionclip.params.language import Concepts, Teacher, TextBanks
from regionclip.params.regions import CheckPseudoLabels, Detection, Pretrain, PseudoLabels, Rpn
from regionclip.params.section import Count, Section
from regionclip.params.transfer import Evaluation, Finetune, ZeroShot


class Params(Section):
    """The whole of params.yaml; ``raw`` is what DVC follows, see ``regionclip.stages.inputs``."""

    profile: str
    seed: Count
    raw: dict[str, str] = Field(default_factory=dict)
    data: Data
    quarantine: Quarantine
    check_data: CheckData
    concepts: Concepts
    teacher: Teacher
    text_bank: TextBanks
    detection: Detection
    rpn: Rpn
    pseudo_labels: PseudoLabels
    check_pseudo_labels: CheckPseudoLabels
    pretrain: Pretrain
    zero_shot: ZeroShot
    finetune: Finetune
    evaluation: Evaluation

    def raw_paths(self) -> dict[str, str]:
        """Return the raw files and folders that the other keys name, as the section ``raw`` should list them.

        The name of each is the key that names it, below the stages or the set that read it.
        """
        named: dict[str, str | None] = {
            "check_data/box_profile": self.check_data.box_profile,
            "teacher/weights": self.teacher.weights,
            "rpn/weights": self.rpn.weights,
            "rpn/backbone_weights": self.rpn.backbone_weights,
            "pretrain/weights": self.pretrain.weights,
        }
        for name in self.data.sets:
            named[f"finetune/{name}/weights"] = getattr(self.finetune, name).weights
            if self.data.source == "files":
                files = getattr(self.data.files, name).model_dump(exclude={"classes"})
                named |= {f"data/{name}/{key}": path for key, path in files.items()}
        if self.data.source == "files" and self.data.files.captions is not None:
            file, images = self.data.files.captions.file, self.data.files.captions.images
            if images is None and file.endswith(".json"):
                images = (Path(file).parent / "images").as_posix()
            named |= {"data/captions/file": file, "data/captions/images": images}
        return {name: path for name, path in named.items() if path is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        absent = [name for name in self.data.sets if getattr(self.finetune, name) is None]
        if absent:
            raise ValueError(f"data.sets names {', '.join(absent)}, which finetune leaves null")
        for name in self.data.sets:
            if getattr(self.finetune, name).weights and self.finetune.initialisations != ["regionclip"]:
                raise ValueError(f"finetune.{name}.weights is one detector: finetune.initialisations is [regionclip]")
        if self.data.source == "files" and self.data.files.captions is None and self.pretrain.weights is None:
            raise ValueError("data.files.captions is null, so pretrain.weights must name a RegionCLIP")
        self._official_sets_are_there()
        return self

    def _official_sets_are_there(self) -> None:
        official, detection = self.check_data.official, {"coco2017": "coco", "lvis_v1": "lvis"}
        files = self.data.files if self.data.source == "files" else None
        captioned = [name for name in official if name not in detection]
        there = [name for name, dataset in detection.items() if files and dataset in self.data.sets]
        there += captioned if files and files.captions else []
        absent = [name for name in official if name not in there]
        if absent:
            raise ValueError(f"check_data.official names {', '.join(absent)}, which the data leave out")
        if len(captioned) > 1:
            raise ValueError(f"check_data.official names {' and '.join(captioned)}, and data.files.captions is one set")


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check a params file.

    Raises:
        InputError: The file is absent, is not YAML, or has an unknown, missing or ill-typed key; the message names it.
    """
    path = Path(path)
    try:
        # JSON mode of pydantic's strict check takes YAML lists as tuples and whole numbers as floats.
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "the file does not exist", file=path, mend="run from the folder that holds params.yaml"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"not YAML ({' '.join(str(error).split())})", file=path, mend="mend the line named") from None
    return check_params(values, path)


def check_params(values: object, path: str | Path) -> Params:
    """Check the values of a params file; see `load_params`."""
    import json

    try:
        return Params.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first, more = error.errors()[0], error.error_count() - 1
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        problem, mend = _explain(first)
        rest = f" (and {more} more)" if more else ""
        raise InputError(f"{problem}{rest}", file=path, key=key, mend=mend) from None


def _explain(error: dict) -> tuple[str, str]:
    if error["type"] == "missing":
        return "the key is missing", "add it, as in the committed params.yaml"
    if error["type"] == "extra_forbidden":
        return "unknown key", "remove it or mend its spelling"
    got = error["input"]
    return f"expected: {error['msg'][0].lower()}{error['msg'][1:]}; got {got!r}", "mend the value"
