"""Captions of the demo world: what a person might write under a picture, true but not complete."""

from __future__ import annotations

from collections import Counter

import numpy as np

from regionclip.demo_world.scenes import SceneObject
from regionclip.demo_world.seeding import pick
from regionclip.demo_world.vocabulary import GROUND_PHRASES, Kind

# Many follow OpenAI's ImageNet prompts (openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb).
_PAIR_TEMPLATES = (
    "a photo of {a}",
    "a photo of {a}.",
    "a photo of {the}.",
    "A photo of {a}",
    "a bad photo of {a}.",
    "a good photo of {the}",
    "a close-up photo of {a}.",
    "a close-up photo of {the}",
    "a cropped photo of {the}.",
    "a bright photo of {a}",
    "a dark photo of {the}.",
    "a blurry photo of {a}.",
    "a drawing of {a}",
    "a painting of {the}.",
    "a rendering of {a}.",
    "art of {the}.",
    "a picture of {a}",
    "An image of {a}.",
    "itap of {a}.",
    "there is {a} here",
    "{the}",
    "{a}",
    "{a}.",
    "my {bare}",
)
_SCENE_TEMPLATES = (
    "{things}",
    "{things}.",
    "a photo of {things}",
    "A photo of {things}.",
    "a picture of {things}",
    "An image with {things}.",
    "a view of {things}",
    "we see {things}",
    "There {are} {things}.",
    "there {are} {things}",
)
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six")
_PLURALS = {"fish": "fish"}


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}"


def pair_caption(rng: np.random.Generator, kind: Kind, ground: str, fill: float) -> str:
    """Describe a single-object picture; the colour is left out of a quarter of the captions.

    The ground, a key of ``GROUND_PHRASES``, is named at times. An object is "large" by ``fill``, its longer side in
    sides of the picture.
    """
    bare = kind.shape if rng.random() < 0.25 else f"{kind.colour} {kind.shape}"
    if rng.random() < 0.25:
        bare = f"large {bare}" if fill > 0.9 else bare
    text = pick(rng, _PAIR_TEMPLATES).format(a=with_article(bare), the=f"the {bare}", bare=bare)
    if rng.random() < 0.22 and not text.endswith("."):
        text = f"{text} {pick(rng, GROUND_PHRASES[ground])}"
    return text


def scene_caption(rng: np.random.Generator, objects: list[SceneObject], ground: str) -> str:
    """Describe a scene: groups of equal objects, at times how two lie to each other, at times the ground."""
    pair = _related(rng, objects) if rng.random() < 0.45 else None
    used = [objects[i].kind for i in pair[:2]] if pair else []
    groups = Counter(item.kind for item in objects if item.kind not in used)
    names = [_phrase(rng, kind, count) for kind, count in groups.items()]
    if len(names) + bool(pair) > 1 and rng.random() < 0.3:
        names.pop(int(rng.integers(len(names))))
    rng.shuffle(names)
    first_is_one = True
    if pair:
        names.insert(0, f"{_phrase(rng, used[0], 1)} {pair[2]} {_phrase(rng, used[1], 1)}")
    else:
        first_is_one = names[0].split()[0] not in _NUMBERS[2:]
    text = pick(rng, _SCENE_TEMPLATES).format(things=_listed(rng, names), are="is" if first_is_one else "are")
    if rng.random() < 0.35:
        stop = "." if text.endswith(".") else ""
        text = f"{text.removesuffix('.')} {pick(rng, GROUND_PHRASES[ground])}{stop}"
    return text[0].upper() + text[1:] if rng.random() < 0.3 else text


def _phrase(rng: np.random.Generator, kind: Kind, count: int) -> str:
    name = kind.shape if count == 1 else _PLURALS.get(kind.shape, f"{kind.shape}s")
    if rng.random() > 0.15:
        name = f"{kind.colour} {name}"
    if count == 1:
        return f"the {name}" if rng.random() < 0.12 else with_article(name)
    return f"{_NUMBERS[count]} {name}" if rng.random() < 0.85 else f"some {name}"


def _listed(rng: np.random.Generator, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    join = pick(rng, (" and ", " and ", " with ", ", and "))
    return ", ".join(names[:-1]) + join + names[-1]


def _related(rng: np.random.Generator, objects: list[SceneObject]) -> tuple[int, int, str] | None:
    """Return two objects, each the only one of its kind, and words that are true of them; None if there are none."""
    counts = Counter(item.kind for item in objects)
    single = [i for i, item in enumerate(objects) if counts[item.kind] == 1]
    if len(single) < 2:
        return None
    first, second = (single[int(i)] for i in rng.permutation(len(single))[:2])
    if second in objects[first].behind:
        return first, second, "behind"
    if first in objects[second].behind:
        return first, second, "in front of"
    (ax, ay), (bx, by) = _middle(objects[first]), _middle(objects[second])
    if abs(ax - bx) > 1.5 * abs(ay - by):
        words = "to the left of" if ax < bx else "to the right of"
    else:
        words = "above" if ay < by else "below"
    near = np.hypot(ax - bx, ay - by) < 0.75 * sum(max(objects[i].box[2:]) for i in (first, second))
    return first, second, pick(rng, ("next to", "beside", "near")) if near and rng.random() < 0.8 else words


def _middle(item: SceneObject) -> tuple[float, float]:
    x, y, width, height = item.box
    return x + width / 2, y + height / 2
