"""Which of two versions of a model is to be the champion, and the moving of its alias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regionclip.errors import InputError
from regionclip.tracking.registry import CANDIDATE, CHAMPION, NUMBERS, Dataset, model_name
from regionclip.tracking.store import connect, tracking_uri

TOLERANCE = 0.01
"""By how much, of 1, the number that is to be kept may be lower: less than seeds differ."""

RULES = {"coco": ("ap50_novel", "ap50_base"), "lvis": ("apr", "ap")}
"""Data set to the number that must be higher and the one that must be kept."""

_SAME = ("protocol", "split", "data.md5")
Tags = Mapping[str, str]


@dataclass(frozen=True)
class Decision:
    """What becomes of a candidate.

    Attributes:
        promoted: Whether it is the champion now.
        reason: Why, in one sentence.
    """

    promoted: bool
    reason: str


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the champion.

    Attributes:
        model: The registered model.
        candidate: Its version.
        champion: The champion's version; None when there was none.
        decision: What became of the candidate.
        numbers: The protocol's numbers: name to that of the candidate and that of the champion.
    """

    model: str
    candidate: str
    champion: str | None
    decision: Decision
    numbers: dict[str, tuple[str, str]]


def decide(dataset: Dataset, candidate: Tags, champion: Tags | None) -> Decision:
    """Decide by the tags of two versions (see `register`); nothing is looked up and nothing is changed.

    COCO: AP50 of novel classes must be higher, and AP50 of base classes at most `TOLERANCE` lower. LVIS: AP of rare
    classes must be higher, and AP at most `TOLERANCE` lower. Numbers of another protocol, split or other data are not
    compared.

    Args:
        dataset: ``coco`` or ``lvis``.
        candidate: Tags of the candidate's version.
        champion: Tags of the champion's version; None when there is none.
    """
    raised, kept = RULES[dataset]
    for name in (raised, kept, *_SAME):
        if name not in candidate:
            return Decision(False, f"the candidate has no {name}")
    if champion is None:
        return Decision(True, "there was no champion")
    for name in _SAME:
        if candidate[name] != champion.get(name):
            return Decision(False, f"not comparable: {name} differs ({candidate[name]}; champion {champion.get(name)})")
    for name in (raised, kept):
        if name not in champion:
            return Decision(False, f"not comparable: the champion has no {name}")
    gain, loss = (float(candidate[name]) - float(champion[name]) for name in (raised, kept))
    if not gain > 0:
        return Decision(False, f"{raised} is not higher ({100 * gain:+.2f} points)")
    if not loss >= -TOLERANCE:
        return Decision(False, f"{kept} is lower by more than {100 * TOLERANCE:.0f} point ({100 * loss:+.2f} points)")
    return Decision(True, f"{raised} is higher ({100 * gain:+.2f} points) and {kept} is kept ({100 * loss:+.2f})")


def promote(dataset: Dataset, candidate: str | None = None) -> Comparison:
    """Make a candidate the champion if `decide` says so; say what was decided as tags of its version.

    Args:
        dataset: ``coco`` or ``lvis``.
        candidate: Version of the registered model; None for the one with the alias ``candidate``.

    Raises:
        InputError: There is no such version.
    """
    from mlflow.exceptions import MlflowException

    client, name = connect(tracking_uri()), model_name(dataset)
    try:
        ours = (
            client.get_model_version(name, candidate)
            if candidate
            else client.get_model_version_by_alias(name, CANDIDATE)
        )
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        mend = f"run `regionclip register --dataset {dataset}`"
        raise InputError(f"the registry has no such version ({error})", file=name, key=candidate, mend=mend) from None
    aliases = client.get_registered_model(name).aliases
    theirs = client.get_model_version(name, aliases[CHAMPION]) if CHAMPION in aliases else None
    if theirs is not None and theirs.version == ours.version:
        decision = Decision(False, "it is the champion already")
    else:
        decision = decide(dataset, ours.tags, theirs.tags if theirs else None)
        said = {"promotion": "promoted" if decision.promoted else "refused", "promotion.reason": decision.reason}
        for key, value in {**said, "promotion.against": str(theirs.version) if theirs else "none"}.items():
            client.set_model_version_tag(name, ours.version, key, value)
    if decision.promoted:
        client.set_registered_model_alias(name, CHAMPION, ours.version)
    tags = (ours.tags, theirs.tags if theirs else {})
    numbers = {key: tuple(of.get(key, "–") for of in tags) for key in NUMBERS[dataset]}
    return Comparison(name, str(ours.version), str(theirs.version) if theirs else None, decision, numbers)
