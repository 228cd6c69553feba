"""Typed schema of params.yaml, read and checked: an unknown, missing or ill-typed key stops with its name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from regionclip.errors import InputError
from regionclip.params.data import PUBLIC, CheckData, Data, Quarantine
from regionclip.params.section import Relation, Section, Text
from regionclip.params.stages import (
    CheckPseudoLabels,
    Concepts,
    Detection,
    Evaluation,
    Finetune,
    Pretrain,
    PseudoLabels,
    Rpn,
    Teacher,
    TextBanks,
    ZeroShot,
)

_MOST_LEVELS = 32
_MOST_VALUES = 200_000  # data sets of LVIS's size name their thousands of classes in their params
_OTHER_KEYS = {"missing": "add", "extra_forbidden": "remove"}
_MOVED = {
    "data.sets": "is a mapping now: under each name format, classes, protocol and files",
    "data.files": "goes: its files stand under data.sets.NAME.files, its captions under data.captions",
    "finetune.coco": "is finetune.sets.coco now",
    "finetune.lvis": "is finetune.sets.lvis now",
    "evaluation.constrained": "goes: choose data.sets.NAME.protocol: constrained for true, generalised for false",
    "evaluation.lvis_images": "goes: choose data.sets.NAME.protocol: federated (all) or federated_labelled",
}
"""Keys of earlier versions, and what became of them."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class Params(Section):
    """The whole of params.yaml; ``raw`` is what DVC follows, see ``regionclip.stages.inputs``."""

    profile: Annotated[Text, Field(max_length=100)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
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

    def require_set(self, name: str, path: str | Path = "params.yaml") -> None:
        """Refuse the name of a data set that there is none of."""
        if name not in self.data.sets:
            mend = f"name one of {', '.join(self.data.sets)}"
            raise InputError(f"there is no data set {name!r:.80}", file=path, key="data.sets", mend=mend)

    def raw_paths(self) -> dict[str, str]:
        """Return the raw files and folders that the other keys name, as the section ``raw`` should list them.

        The name of each is the key that names it, below the stages or the set that read it.
        """
        named: dict[str, str | None] = {
            "check_data/box_profile": self.check_data.box_profile,
            "teacher/weights": self.teacher.weights,
            "rpn/weights": self.rpn.weights,
            "rpn/backbone_weights": self.rpn.backbone_weights,
            "pseudo_labels/weights": self.pseudo_labels.weights,
            "pretrain/weights": self.pretrain.weights,
        }
        for name, of in self.data.sets.items():
            named[f"finetune/{name}/weights"] = self.finetune.sets[name].weights
            files = of.files.model_dump() if of.files else {}
            if files and files["images_val"] == files["images_train"]:
                del files["images_val"]
            named |= {f"sets/{name}/{key}": path for key, path in files.items()}
        if self.data.captions is not None:
            file, images = self.data.captions.file, self.data.captions.images
            if images is None and file.endswith(".json"):
                images = (Path(file).parent / "images").as_posix()
            named |= {"captions/file": file, "captions/images": images}
        return {name: path for name, path in named.items() if path is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key, named in (
            ("finetune.sets", self.finetune.sets),
            ("zero_shot.score_threshold", self.zero_shot.score_threshold),
        ):
            for name in sorted(self.data.sets.keys() ^ named.keys()):
                lacking = name in self.data.sets
                where = "missing, and data.sets has the set: add it, as that of another one"
                raise Relation(f"{key}.{name}", where if lacking else "is none of data.sets")
        for name, target in self.finetune.sets.items():
            if target.weights and self.finetune.initialisations != ["regionclip"]:
                problem = f"not [regionclip], and finetune.sets.{name}.weights is one detector"
                raise Relation("finetune.initialisations", problem)
        if self.rpn.dataset not in self.data.sets:
            raise Relation("rpn.dataset", f"{self.rpn.dataset} is none of data.sets: {', '.join(self.data.sets)}")
        modes = {"zero_shot": self.zero_shot} | {f"finetune.sets.{name}": of for name, of in self.finetune.sets.items()}
        for key, of in modes.items():
            if self.rpn.objectness == "quality" and of.score_mode == "official":
                problem = "official, which takes a box that overlaps its object by less than half for none where"
                raise Relation(f"{key}.score_mode", f"{problem} rpn.objectness is quality: write sigmoid")
        self._sources_agree()
        self._official_sets_are_there()
        return self

    def _sources_agree(self) -> None:
        data, teacher = self.data, self.teacher
        if data.source == "files" and data.captions is None and self.pretrain.weights is None:
            raise Relation("pretrain.weights", "null, and so is data.captions: name a RegionCLIP to take")
        if teacher.source != "train":
            return
        if data.source != "demo":
            raise Relation("teacher.source", "train, and only the demo has pictures for that: name a CLIP to take")
        size = teacher.architecture.vision_cfg.image_size
        if data.demo.pair_size != size:
            problem = f"the teacher's image_size is {size}, and its pictures are of that size"
            raise Relation("data.demo.pair_size", f"{problem}; got {data.demo.pair_size}")

    def _official_sets_are_there(self) -> None:
        official, there = self.check_data.official, {of.public for of in self.data.sets.values() if of.files}
        captioned = [name for name in official if name not in PUBLIC.values()]
        absent = [name for name in official if name not in there and not (name in captioned and self.data.captions)]
        if absent:
            raise Relation("check_data.official", f"names {', '.join(absent)}, which the data leave out")
        if len(captioned) > 1:
            problem = f"names {' and '.join(captioned)}, and data.captions is one set"
            raise Relation("check_data.official", problem)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check a params file, which has every key: what is left out would change with the version.

    Raises:
        InputError: The file cannot be read, is not YAML, or has an unknown, missing or wrong key; the message names it,
            and where the file is of another version, each key to add or to take out.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        mend = "run from the folder that holds params.yaml"
        raise InputError("the file does not exist", file=path, mend=mend) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text (byte {error.start})", file=path, mend="save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"unreadable ({error.strerror})", file=path, mend="make it a file that you may read") from None
    params = check_params(_parse(text, path), path)
    if absent := dict(_left_out(params)):
        lines = "".join(f"\n  {key}: {json.dumps(value)}" for key, value in absent.items())
        rest = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        mend = f"the file is of an earlier version; add, here with the paper's values:{lines}"
        raise InputError(f"the key is missing{rest}", file=path, key=next(iter(absent)), mend=mend)
    return params


def _left_out(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys that have a default and stand nowhere; one that may be null says with that that it is not used."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _left_out(value, f"{prefix}{name}.")
        elif isinstance(value, dict):
            for key, part in value.items():
                if isinstance(part, Section):
                    yield from _left_out(part, f"{prefix}{name}.{key}.")
        elif name not in section.model_fields_set and value is not None and field.default_factory is None:
            yield f"{prefix}{name}", value


def _parse(text: str, path: Path) -> object:
    try:
        # As DVC reads it: YAML 1.2, in which 1e-3 is a number, and a key that stands twice is an error. DVC's parser in
        # C dies of deep nesting.
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"{error.problem or error.context}, line {mark.line + 1 if mark else '?'}"
        raise InputError(f"not YAML ({' '.join(problem.split())})", file=path, mend="mend the line named") from None
    except Exception as error:
        # The parser lets through what Python says of impossible dates, endless numbers and deep nesting.
        problem = f"not YAML ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        raise InputError(problem, file=path, mend="write numbers and texts as in the committed params.yaml") from None


def check_params(values: object, path: str | Path) -> Params:
    """Check the values of a params file; see `load_params`."""
    _plain(values, path)
    try:
        # JSON mode of pydantic's strict check takes lists as tuples and whole numbers as floats.
        return Params.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first, more = error.errors()[0], error.error_count() - 1
        problem, mend, place = _explain(first)
        keys = [(fault["type"], ".".join(map(str, fault["loc"]))) for fault in error.errors()]
        earlier = [key for _, key in keys if key in _MOVED]
        if earlier or (more and first["type"] in _OTHER_KEYS):
            lines = [f"{key} {_MOVED[key]}" for key in earlier]
            lines += [f"{_OTHER_KEYS[kind]} {key}" for kind, key in keys if kind in _OTHER_KEYS and key not in _MOVED]
            mend = "".join(f"\n  {line}" for line in lines)
            mend = f"let the keys be those of this version (`regionclip profile` shows whole params):{mend}"
        key = ".".join(str(part) for part in (*first["loc"], *place)) or "(top level)"
        rest = f" (and {more} more)" if more else ""
        raise InputError(f"{problem}{rest}", file=path, key=key, mend=mend) from None


def _plain(values: object, path: str | Path) -> None:
    """Refuse what JSON cannot hold, and aliases that would unfold to more than any params have."""
    rest: list[tuple[str, Any]] = [("", values)]
    for seen, (key, value) in enumerate(rest):
        if seen > _MOST_VALUES or key.count(".") > _MOST_LEVELS:
            raise InputError("too many values, or an alias that holds itself", file=path, mend="leave the aliases out")
        if isinstance(value, dict):
            if odd := [name for name in value if not isinstance(name, str)]:
                # DVC would leave out the stages of such a data set without a word.
                problem = f"the key {odd[0]!r:.80} is no text"
                raise InputError(problem, file=path, key=key or "(top level)", mend="put it in quotes")
            rest += [(f"{key}.{name}".lstrip("."), part) for name, part in value.items()]
            rest += [(key, name) for name in value]
            continue
        if isinstance(value, list):
            rest += [(f"{key}.{place}".lstrip("."), part) for place, part in enumerate(value)]
            continue
        sound = value is None or isinstance(value, (bool, int, float, str))
        if not sound or (isinstance(value, str) and _SURROGATE.search(value)):
            problem = f"neither a number nor a text; got {value!r:.80}"
            raise InputError(problem, file=path, key=key or "(top level)", mend="mend the value, or put it in quotes")


def _explain(error: dict) -> tuple[str, str, list[str]]:
    if error["type"] == "missing":
        return "the key is missing", "add it, as in the committed params.yaml", []
    if error["type"] == "extra_forbidden":
        return "unknown key", "remove it or mend its spelling", []
    relation = error.get("ctx", {}).get("error")
    if isinstance(relation, Relation):
        return str(relation), "mend the value", [relation.key] if relation.key else []
    got = error["input"]
    return f"expected: {error['msg'][0].lower()}{error['msg'][1:]}; got {got!r:.200}", "mend the value", []
