"""Which of two versions of a model is to be the champion, and the moving of its alias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regionclip.errors import InputError
from regionclip.tracking.store import all_found, connect, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE, CHAMPION = "candidate", "champion"
TOLERANCE = 0.01
"""By how much, of 1, the number that is to be kept may be lower: less than seeds differ."""

HEADLINE = "headline"
"""Tag of a version: names of its protocol's numbers. The first must be higher, and the second must be kept."""

_SAME = ("protocol", "split", "data.md5")
_TAG, _MOVING, _PROMOTED, _REFUSED = "promotion", "moves the alias", "promoted", "refused"
Tags = Mapping[str, str]


@dataclass(frozen=True)
class Decision:
    """Whether a candidate is the champion now, and why, in one sentence."""

    promoted: bool
    reason: str


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the champion."""

    model: str  # the registered one
    candidate: str  # its version
    champion: str | None  # its version; None when there was none
    decision: Decision
    numbers: dict[str, tuple[str, str]]  # of the protocol: the candidate's and the champion's


def model_name(dataset: str) -> str:
    """Return the registered model's name."""
    return f"regionclip-{dataset}"


def decide(candidate: Tags, champion: Tags | None) -> Decision:
    """Decide by the tags of two versions (see `register`); nothing is looked up and nothing is changed.

    The first number of the candidate's protocol (AP50 of novel classes, AP of rare ones) must be higher, and the second
    (AP50 of base classes, AP) at most `TOLERANCE` lower. Numbers of another protocol, split or other data are not
    compared. ``champion`` is None when there is none.
    """
    if len(headline := _headline(candidate)) < 2:
        return Decision(False, f"the candidate has no {HEADLINE}: register it again")
    raised, kept, *_ = headline
    for name in (raised, kept, *_SAME):
        if name not in candidate:
            return Decision(False, f"the candidate has no {name}")
    if wrong := _no_number(candidate, raised, kept):
        return Decision(False, f"the candidate's {wrong}")
    if champion is None:
        return Decision(True, "there was no champion")
    for name in _SAME:
        if candidate[name] != champion.get(name):
            return Decision(False, f"not comparable: {name} differs ({candidate[name]}; champion {champion.get(name)})")
    for name in (raised, kept):
        if name not in champion:
            return Decision(False, f"not comparable: the champion has no {name}")
    if wrong := _no_number(champion, raised, kept):
        # No candidate could ever be better.
        return Decision(True, f"the champion's {wrong}")
    gain, loss = (float(candidate[name]) - float(champion[name]) for name in (raised, kept))
    if not gain > 0:
        return Decision(False, f"{raised} is not higher ({100 * gain:+.2f} points)")
    if not loss >= -TOLERANCE:
        return Decision(False, f"{kept} is lower by more than {100 * TOLERANCE:.0f} point ({100 * loss:+.2f} points)")
    return Decision(True, f"{raised} is higher ({100 * gain:+.2f} points) and {kept} is kept ({100 * loss:+.2f})")


def _headline(tags: Tags) -> list[str]:
    return tags.get(HEADLINE, "").split(",")


def _no_number(tags: Tags, *names: str) -> str | None:
    for name in names:
        try:
            sound = 0 <= float(tags[name]) <= 1
        except ValueError:
            sound = False
        if not sound:
            return f"{name} is no number from 0 to 1 ({tags[name][:40]})"
    return None


def promote(dataset: str, candidate: str | None = None) -> Comparison:
    """Make a candidate (a version; None: the one with that alias) the champion if `decide` says so.

    What was decided is kept as tags of its version. Of promotions at the same time the best one stays: each says what
    it is about to do before it moves the alias, and looks at what the others say after it.

    Raises:
        InputError: There is no such version.
    """
    client, name = connect(tracking_uri()), model_name(dataset)
    ours = _candidate(client, dataset, candidate)
    # Looked up before the champion: one that ends in between is looked at once more, rather than not at all.
    versions = all_found(client.search_model_versions, f"name = '{name}'")
    ended = {version.version for version in versions if version.tags.get(_TAG) == _PROMOTED}
    theirs = _champion(client, name)
    if theirs is not None and theirs.version == ours.version:
        decision = Decision(False, "it is the champion already")
    else:
        decision = decide(ours.tags, theirs.tags if theirs else None)
        _say(client, ours, _MOVING if decision.promoted else _REFUSED, decision, theirs)
    if decision.promoted:
        client.set_registered_model_alias(name, CHAMPION, ours.version)
        best = _settle(client, ours, ended)
        if best.version != ours.version:
            theirs, decision = best, Decision(False, f"version {best.version} was promoted meanwhile")
        _say(client, ours, _PROMOTED if decision.promoted else _REFUSED, decision, theirs)
    tags = (ours.tags, theirs.tags if theirs else {})
    numbers = {key: tuple(of.get(key, "–") for of in tags) for key in _headline(ours.tags)}
    return Comparison(name, str(ours.version), str(theirs.version) if theirs else None, decision, numbers)


def _candidate(client: MlflowClient, dataset: str, version: str | None) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    name = model_name(dataset)
    try:
        return (
            client.get_model_version(name, version) if version else client.get_model_version_by_alias(name, CANDIDATE)
        )
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        mend = f"run `regionclip register --dataset {dataset}`"
        raise InputError(f"the registry has no such version ({error})", file=name, key=version, mend=mend) from None


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    aliases = client.get_registered_model(name).aliases
    return client.get_model_version(name, aliases[CHAMPION]) if CHAMPION in aliases else None


def _say(client: MlflowClient, ours: ModelVersion, what: str, why: Decision, theirs: ModelVersion | None) -> None:
    against = str(theirs.version) if theirs else "none"
    # What stands in _TAG counts for others, so it comes last.
    for key, value in {f"{_TAG}.reason": why.reason, f"{_TAG}.against": against, _TAG: what}.items():
        client.set_model_version_tag(ours.name, ours.version, key, value)


def _settle(client: MlflowClient, ours: ModelVersion, ended: set[str]) -> ModelVersion:
    """Leave the alias with the best of those promoted meanwhile, and return it.

    Each says that it moves the alias before it does. So whoever moves it last finds all the others here.
    """
    while True:
        best = ours
        for other in all_found(client.search_model_versions, f"name = '{ours.name}'"):
            told = other.tags.get(_TAG)
            meanwhile = told == _MOVING or (told == _PROMOTED and other.version not in ended)
            if meanwhile and other.version != best.version and decide(other.tags, best.tags).promoted:
                best = other
        champion = _champion(client, ours.name)
        if champion is not None and not decide(best.tags, champion.tags).promoted:
            return champion
        client.set_registered_model_alias(ours.name, CHAMPION, best.version)
