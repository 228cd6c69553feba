"""A candidate becomes the champion by its protocol's numbers only, and only where these can be compared."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from regionclip.errors import InputError
from regionclip.evaluation.protocols import PROTOCOLS
from regionclip.inference.promotion import CANDIDATE, CHAMPION, TOLERANCE, decide, promote

SAME = {"protocol": "COCO box AP", "split": "val", "data.md5": "d.dir", "headline": "ap50_novel,ap50_base,ap50_all,ap"}
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
        (coco(float("nan"), 0.9), False, "the candidate's ap50_novel is no number from 0 to 1 (nan)"),
        (coco(0.9, float("inf")), False, "the candidate's ap50_base is no number from 0 to 1 (inf)"),
        (coco(0.9, 0.9, ap50_novel="good"), False, "the candidate's ap50_novel is no number from 0 to 1 (good)"),
        (coco(90.0, 0.9), False, "the candidate's ap50_novel is no number from 0 to 1 (90.0)"),
        (coco(0.9, 0.9, split="dev"), False, "not comparable: split differs (dev; champion val)"),
        (coco(0.9, 0.9, protocol="constrained"), False, "not comparable: protocol differs"),
        (coco(0.9, 0.9, **{"data.md5": "other"}), False, "not comparable: data.md5 differs"),
        (SAME | {"ap50_base": "0.9"}, False, "the candidate has no ap50_novel"),
        ({k: v for k, v in coco(0.9, 0.9).items() if k != "protocol"}, False, "has no protocol"),
        ({k: v for k, v in coco(0.9, 0.9).items() if k != "headline"}, False, "has no headline: register it again"),
    ],
)
def test_decision(candidate: dict[str, str], promoted: bool, reason: str) -> None:
    decision = decide(candidate, CHAMPION_TAGS)
    assert decision.promoted is promoted and reason in decision.reason


def test_the_first_headline_number_decides_and_the_second_is_kept() -> None:
    """Of LVIS APr must rise and AP may not fall; COCO's numbers do not count."""
    lvis = SAME | {"headline": ",".join(PROTOCOLS["federated"].headline)}
    champion = lvis | {"apr": "0.2", "ap": "0.3"}
    assert decide(lvis | {"apr": "0.21", "ap": "0.3"}, champion).promoted
    assert not decide(lvis | {"apr": "0.21", "ap": "0.2"}, champion).promoted
    assert not decide(lvis | {"apr": "0.2", "ap": "0.5"}, champion).promoted
    assert not decide(coco(0.9, 0.9), champion).promoted


def test_first_candidate_is_champion_if_it_was_measured() -> None:
    assert decide(coco(0.1, 0.1), None).promoted
    assert decide(SAME, None).reason == "the candidate has no ap50_novel"
    assert not decide(coco(float("nan"), 0.5), None).promoted


def test_champion_that_is_no_number_gives_way() -> None:
    """Else nothing would ever be promoted again; but what cannot be compared stays so."""
    broken = CHAMPION_TAGS | {"ap50_novel": "nan"}
    assert decide(coco(0.1, 0.1), broken).promoted
    assert not decide(coco(0.1, 0.1, split="dev"), broken).promoted
    assert not decide(coco(float("nan"), 0.1), broken).promoted


ANY = st.floats() | st.integers() | st.text(max_size=9)


@given(ANY, ANY, st.none() | st.tuples(ANY, ANY))
def test_only_numbers_are_promoted(novel: object, base: object, other: tuple[object, object] | None) -> None:
    """Whatever stands in the tags, of the candidate and of the champion."""
    candidate = SAME | {"ap50_novel": str(novel), "ap50_base": str(base)}
    champion = None if other is None else SAME | {"ap50_novel": str(other[0]), "ap50_base": str(other[1])}
    if decide(candidate, champion).promoted:
        assert all(0 <= float(candidate[name]) <= 1 for name in ("ap50_novel", "ap50_base"))


@given(*[st.floats(0, 1)] * 4)
def test_two_versions_never_beat_each_other(novel_a: float, base_a: float, novel_b: float, base_b: float) -> None:
    """The order of registration cannot make the alias go back and forth; a promoted one is never worse in both."""
    a, b = coco(novel_a, base_a), coco(novel_b, base_b)
    forth, back = decide(a, b).promoted, decide(b, a).promoted
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


PROMOTER = """
import random, sys, time
from pathlib import Path
from regionclip.inference import promotion

number, seed = int(sys.argv[1]), int(sys.argv[2])
made, pause = promotion.connect, random.Random(seed)

class Slow:
    # The more time passes between looking and writing, the more often two get into each other's way.
    def __init__(self, client):
        self.client = client
    def __getattr__(self, name):
        act = getattr(self.client, name)
        if name != "set_registered_model_alias":
            return act
        return lambda *arguments: (time.sleep(pause.choice([0, 0.05, 0.3])), act(*arguments))[1]

promotion.connect = lambda uri: Slow(made(uri))
Path(f"ready-{number}").touch()
for round in range(int(sys.argv[3])):
    while not Path(f"go-{round}").exists():
        time.sleep(0.005)
    found = promotion.promote("coco", Path(f"go-{round}").read_text().split()[number])
    Path(f"done-{round}-{number}").write_text(f"{found.decision.promoted} {found.decision.reason}")
"""
ROUNDS, PROCESSES = 6, 3


def wait_for(files: list[Path]) -> None:
    """Wait until other processes have written all files."""
    deadline = time.monotonic() + 300
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_best_of_promotions_at_once_stays(client, tmp_path) -> None:
    """Processes that all beat the old champion promote at the same time, again and again, and move the alias at any
    moment: in the end it is with the best of them. An older version that was the champion once and is better than all,
    but was taken back by hand, stays away.
    """
    withdrawn = version(client, coco(0.99, 0.6), None)
    client.set_model_version_tag("regionclip-coco", withdrawn, "promotion", "promoted")
    promoters = [
        subprocess.Popen([sys.executable, "-c", PROMOTER, str(number), str(number), str(ROUNDS)])
        for number in range(PROCESSES)
    ]
    try:
        wait_for([Path(f"ready-{number}") for number in range(PROCESSES)])
        for round in range(ROUNDS):
            old = version(client, coco(0.1, 0.6), CHAMPION)
            novel = [0.2 + 0.1 * ((number + round) % PROCESSES) for number in range(PROCESSES)]
            versions = [version(client, coco(value, 0.6), None) for value in novel]
            Path("beside").write_text(" ".join(versions))
            Path("beside").rename(f"go-{round}")
            done = [Path(f"done-{round}-{number}") for number in range(PROCESSES)]
            wait_for(done)
            best = versions[novel.index(max(novel))]
            assert champion(client) == best, [file.read_text() for file in done]
            said = {each: client.get_model_version("regionclip-coco", each).tags for each in versions}
            assert said[best]["promotion"] == "promoted" and said[best]["promotion.against"] in {old, *versions}
            assert {tags["promotion"] for tags in said.values()} <= {"promoted", "refused"}
    finally:
        for promoter in promoters:
            promoter.kill()
            promoter.wait()
