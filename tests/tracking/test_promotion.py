"""A candidate becomes the champion by its protocol's numbers only, and only where these can be compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from regionclip.errors import InputError
from regionclip.tracking.promotion import TOLERANCE, decide, promote
from regionclip.tracking.registry import CANDIDATE, CHAMPION

SAME = {"protocol": "COCO box AP", "split": "val", "data.md5": "d.dir"}
CHAMPION_TAGS = SAME | {"ap50_novel": "0.5", "ap50_base": "0.6", "ap50_all": "0.57", "ap": "0.3"}


def coco(novel: float, base: float, **changes: str) -> dict[str, str]:
    """Tags of a COCO version."""
    return SAME | {"ap50_novel": repr(novel), "ap50_base": repr(base)} | changes


@pytest.mark.parametrize(
    ("candidate", "promoted", "reason"),
    [
        (coco(0.51, 0.61), True, "ap50_novel is higher (+1.00 points) and ap50_base is kept (+1.00)"),
        (coco(0.51, 0.595), True, "ap50_base is kept (-0.50)"),
        (coco(0.7, 0.58), False, "ap50_base is lower by more than 1 point (-2.00 points)"),
        (coco(0.5, 0.9), False, "ap50_novel is not higher (+0.00 points)"),
        (coco(0.4, 0.9), False, "ap50_novel is not higher (-10.00 points)"),
        (coco(float("nan"), 0.9), False, "ap50_novel is not higher"),
        (coco(0.9, float("nan")), False, "ap50_base is lower"),
        (coco(0.9, 0.9, split="dev"), False, "not comparable: split differs (dev; champion val)"),
        (coco(0.9, 0.9, protocol="constrained"), False, "not comparable: protocol differs"),
        (coco(0.9, 0.9, **{"data.md5": "other"}), False, "not comparable: data.md5 differs"),
        (SAME | {"ap50_base": "0.9"}, False, "the candidate has no ap50_novel"),
        ({"ap50_novel": "0.9", "ap50_base": "0.9", "split": "val", "data.md5": "d"}, False, "has no protocol"),
    ],
)
def test_decision(candidate: dict[str, str], promoted: bool, reason: str) -> None:
    decision = decide("coco", candidate, CHAMPION_TAGS)
    assert decision.promoted is promoted and reason in decision.reason


def test_lvis_goes_by_rare_classes_and_keeps_all() -> None:
    """On LVIS APr must rise and AP may not fall; COCO's numbers do not count."""
    champion = SAME | {"apr": "0.2", "ap": "0.3"}
    assert decide("lvis", SAME | {"apr": "0.21", "ap": "0.3"}, champion).promoted
    assert not decide("lvis", SAME | {"apr": "0.21", "ap": "0.2"}, champion).promoted
    assert not decide("lvis", SAME | {"apr": "0.2", "ap": "0.5"}, champion).promoted
    assert not decide("lvis", coco(0.9, 0.9), champion).promoted


def test_first_candidate_is_champion_if_it_was_measured() -> None:
    assert decide("coco", coco(0.1, 0.1), None).promoted
    assert decide("coco", SAME, None).reason == "the candidate has no ap50_novel"


@given(*[st.floats(0, 1)] * 4)
def test_two_versions_never_beat_each_other(novel_a: float, base_a: float, novel_b: float, base_b: float) -> None:
    """The order of registration cannot make the alias go back and forth; a promoted one is never worse in both."""
    a, b = coco(novel_a, base_a), coco(novel_b, base_b)
    forth, back = decide("coco", a, b).promoted, decide("coco", b, a).promoted
    assert not (forth and back)
    assert not forth or (novel_a > novel_b and base_a >= base_b - TOLERANCE)


def version(client: MlflowClient, tags: dict[str, str], alias: str | None) -> str:
    """Register a version of the COCO model, without bytes."""
    if not client.search_registered_models("name = 'regionclip-coco'"):
        client.create_registered_model("regionclip-coco")
    made = client.create_model_version("regionclip-coco", "file:///nowhere", tags=tags).version
    if alias:
        client.set_registered_model_alias("regionclip-coco", alias, made)
    return str(made)


def champion(client: MlflowClient) -> str:
    """The champion's version."""
    return str(client.get_model_version_by_alias("regionclip-coco", CHAMPION).version)


def test_alias_moves_and_the_version_says_why(client) -> None:
    """First champion; a worse candidate is refused and says so; a better one takes the alias; again, nothing moves."""
    first = version(client, coco(0.5, 0.6), CANDIDATE)
    assert promote("coco").decision.promoted and champion(client) == first
    worse = version(client, coco(0.4, 0.6), CANDIDATE)
    refused = promote("coco")
    assert not refused.decision.promoted and champion(client) == first
    assert (refused.candidate, refused.champion, refused.numbers["ap50_novel"]) == (worse, first, ("0.4", "0.5"))
    tags = client.get_model_version("regionclip-coco", worse).tags
    assert tags["promotion"] == "refused" and tags["promotion.against"] == first
    assert tags["promotion.reason"] == "ap50_novel is not higher (-10.00 points)"
    better = version(client, coco(0.6, 0.6), None)
    assert promote("coco", better).decision.promoted and champion(client) == better
    again = promote("coco", better)
    assert again.decision.reason == "it is the champion already"
    assert client.get_model_version("regionclip-coco", better).tags["promotion"] == "promoted"


@pytest.mark.parametrize("candidate", [None, "7"])
def test_absent_candidate_says_how_to_make_one(client, candidate: str | None) -> None:
    """No model at all, and no such version of one that is there."""
    for _ in range(2):
        with pytest.raises(InputError, match="regionclip register --dataset coco"):
            promote("coco", candidate)
        version(client, coco(0.5, 0.6), None)
