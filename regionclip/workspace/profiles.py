"""Profiles by name: one base and what each experiment changes, composed by Hydra into a whole params.yaml.

They lie in ``regionclip/profiles``; a workspace may have its own in ``profiles``, which name those that they change
under ``defaults``, as in every Hydra configuration.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from yaml import YAMLError as PyYAMLError

from regionclip.errors import InputError
from regionclip.files import atomic_path
from regionclip.params import check_params
from regionclip.params.section import Section

PACKAGED = Path(__file__).parents[1] / "profiles"
OWN = "profiles"
"""Folder of a workspace's own profiles."""
_WIDTH = 90  # characters of a part that is written in one line
_COMMENT_COLUMN = 29


class _Representer(RoundTripRepresenter):
    """Writes null as such and small numbers without an exponent, as people do."""


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)
_Representer.add_representer(
    float,
    lambda representer, value: representer.represent_scalar(
        "tag:yaml.org,2002:float", np.format_float_positional(value, trim="0")
    ),
)


def profile_titles(workspace: Path = Path()) -> dict[str, str]:
    """Return the first comment of each profile by its name; parts, whose names begin with ``_``, are not among them."""
    files = [file for folder in _folders(workspace) for file in sorted(folder.glob("[!_]*.yaml"))]
    return {file.stem: _title(file) for file in files}


def profile_text(name: str, workspace: Path = Path()) -> str:
    """Return a profile as the text of a params.yaml; a file that names no ``defaults`` is one already.

    Errors are those of `compose_profile`.
    """
    file = _file(name, workspace)
    if file.parent != PACKAGED and not re.search("^defaults:", file.read_text(encoding="utf-8"), re.MULTILINE):
        return file.read_text(encoding="utf-8")
    return render(compose_profile(name, workspace), name, workspace)


def compose_profile(name: str, workspace: Path = Path()) -> dict[str, Any]:
    """Return the values of a profile; what it leaves out has the schema's default, and ``raw`` lists what it names.

    Args:
        name: See `profile_titles`.
        workspace: Folder with the user's own ``profiles``.

    Raises:
        InputError: There is no such profile, it names a part that is not there, or its values are no params.
    """
    return complete(composed(name, workspace), _file(name, workspace))


def composed(name: str, workspace: Path = Path()) -> dict[str, Any]:
    """Return what a profile and those that it changes say, unchecked; see `compose_profile`."""
    file, search = _file(name, workspace), f'hydra.searchpath=["file://{_folders(workspace)[0].resolve()}"]'
    try:
        with initialize_config_dir(str(file.parent.resolve()), version_base="1.3"):
            values = OmegaConf.to_container(compose(name, [search]), resolve=True)
    except (HydraException, OmegaConfBaseException, PyYAMLError) as error:
        problem = f"no profile can be made of it ({' '.join(str(error).split())[:300]})"
        raise InputError(problem, file=file, mend="mend the file, or what it names under defaults") from None
    if each := values.pop("each_set", None):
        try:
            # What ``each_set`` says and the profile does not.
            for set_name, of in values["data"]["sets"].items():
                values["data"]["sets"][set_name] = each["data"] | of
                values["zero_shot"].setdefault("score_threshold", {}).setdefault(set_name, deepcopy(each["zero_shot"]))
                values["finetune"].setdefault("sets", {}).setdefault(set_name, deepcopy(each["finetune"]))
        except (AttributeError, KeyError, TypeError):
            # What is no mapping, or lacks a part; the schema says the rest of a set's own keys.
            mend = "let data, zero_shot and finetune stand under each_set, and each of data.sets be a mapping"
            raise InputError("the data sets cannot be completed", file=file, key="each_set", mend=mend) from None
    return values | {"profile": name}


def complete(values: dict[str, Any], file: str | Path) -> dict[str, Any]:
    """Return params with every key, in the schema's order, and ``raw`` as the other keys want it.

    Raises:
        InputError: They are no params.
    """
    params = check_params(values, file)
    return _keys(params) | {"raw": params.raw_paths()}


def render(values: dict[str, Any], name: str, workspace: Path = Path()) -> str:
    """Return params as YAML, with the title and the comments of a profile and of what it changes."""
    yaml, text = YAML(), io.StringIO()
    yaml.width, yaml.Representer = 2**31, _Representer
    comments = _comments(name, workspace)
    # What is said of the first data set's keys holds for a set of which nothing is said.
    first = next((path[2] for path in comments if path[:2] == ("data", "sets") and len(path) > 2), "")
    for dataset in values["data"]["sets"].keys() - {key for path in comments for key in path}:
        for path, comment in list(comments.items()):
            if first in path:
                comments[tuple(dataset if key == first else key for key in path)] = comment
    yaml.dump(_commented(values, comments), text)
    return f"# {_title(_file(name, workspace))}\n{text.getvalue().rstrip()}\n"


def replace_file(text: str, out: Path) -> Path | None:
    """Write a params.yaml, or another file; return where one that was there is kept: beside it, as ``.before``."""
    kept = out.with_name(f"{out.name}.before") if out.exists() and out.read_bytes() != text.encode() else None
    if kept is not None:
        with atomic_path(kept) as beside:
            beside.write_bytes(out.read_bytes())
    with atomic_path(out) as beside:
        beside.write_text(text, encoding="utf-8")
    return kept


def _folders(workspace: Path) -> tuple[Path, Path]:
    """Where profiles lie: those of the code, which a clone has with it, and the workspace's own."""
    clone = workspace / "regionclip" / "profiles"
    return clone if clone.is_dir() else PACKAGED, workspace / OWN


def _file(name: str, workspace: Path) -> Path:
    for folder in _folders(workspace):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise InputError(f"no such profile '{name}'", mend=f"there are {', '.join(profile_titles(workspace))}")


def _title(file: Path) -> str:
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _keys(section: Section) -> dict[str, Any]:
    """All keys of a section but those that may be left out and are null, such as the schedule of an imported CLIP."""
    values, plain = {}, section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if value is not None or field.is_required():
            values[name] = _plain(value, plain[name])
    return values


def _plain(value: Any, plain: Any) -> Any:
    if isinstance(value, Section):
        return _keys(value)
    if isinstance(value, dict):
        return {name: _plain(part, plain[name]) for name, part in value.items()}
    return plain


def _comments(name: str, workspace: Path) -> dict[tuple[str, ...], str]:
    """Comments behind the keys of a profile, by the path of the key; its own before those of what it changes."""
    try:
        values = YAML().load(_file(name, workspace)) or {}
    except YAMLError:
        return {}
    comments: dict[tuple[str, ...], str] = {}
    for base in values.get("defaults", []):
        if base != "_self_":
            comments |= _comments(base, workspace)
    return comments | dict(_written(values, ()))


def _written(values: CommentedMap, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in values.items():
        tokens = values.ca.items.get(key) or [None] * 4
        if isinstance(value, CommentedMap):
            yield from _written(value, (*path, key))
        comment = tokens[2].value.partition("\n")[0].strip() if tokens[2] else ""
        if comment:
            yield (*path, key), comment


def _commented(values: Mapping[str, Any], comments: dict[tuple[str, ...], str], path: tuple[str, ...] = ()) -> Any:
    lines = CommentedMap()
    for key, value in values.items():
        here = (*path, key)
        if isinstance(value, dict):
            value = _commented(value, comments, here)
        elif isinstance(value, list):
            value = CommentedSeq(value)
            value.fa.set_flow_style()
        lines[key] = value
        if comment := comments.get(here):
            lines.yaml_add_eol_comment(comment, key, column=_COMMENT_COLUMN)
        if not path and isinstance(value, dict) and key != "raw":
            lines.yaml_set_comment_before_after_key(key, before="\n")
    inner = any(isinstance(value, dict) or (*path, key) in comments for key, value in values.items())
    if len(path) > 1 and not inner and len(str(dict(lines))) < _WIDTH:
        lines.fa.set_flow_style()
    return lines
