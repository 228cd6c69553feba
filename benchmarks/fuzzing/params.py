"""params.yaml with odd values, odd YAML and damaged bytes: refused by the key, or taken and the same when written."""

from __future__ import annotations

import copy
import datetime
import random
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fuzzing.mutation import mutated
from regionclip.errors import InputError
from regionclip.params import load_params
from regionclip.workspace.profiles import profile_text, profile_titles

ROOT = Path(__file__).parents[2]
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1")
VALUES = (
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e-300, 1e308, 2**31, 2**63, 10**30, 10**400, float("nan"), float("inf"),
    "", " ", "0", "1e3", "no", "a" * 5000, "é", "\x07", "\x1b[31m", "{}", "${seed}", "../../x", "/etc/passwd", "a\nb",
    [], [None], [1, 2], [[[1]]], list(range(300)), {}, {"a": 1}, {1: 2}, {None: None}, b"\xff\x00", {1, 2},
    datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC),
)  # fmt: skip
LINES = (
    "seed: 1", "seed: 0x10", "seed: 0o10", "seed: 1_000", "seed: 1:30", "seed: .inf", "seed: ~", "seed: 12e03", "\t",
    "\t a: 1", "a: &a [*a]", "a: &a {b: *a}", "<<: {seed: 1}", "<<: *transfer", "? {a: b}\n: c", "? [a]\n: b", "!x y",
    "!!python/object:os.x {}", "!!python/object/apply:os.system ['true']", "!!set {a, b}", "!!binary aGk=", "!!int x",
    "---\nseed: 1", "...", "%YAML 9.9", "a: 'b", 'a: "\\ud83d"', 'a: "\\x00"', "\x00", "a: *nobody", "- 1", "{", "'a",
    "[" * 3000, "a: " * 3000, "? " * 3000, "a: " + "9" * 5000, "a: " + "9" * 5000 + ".0", "a: |\n  b", "# \x07",
    "\u2028a: 1", "quarantine: {max_fraction: 1}",
    "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 1}]\n" for i in range(12)),
)  # fmt: skip


@cache
def samples() -> dict[str, str]:
    """Return the profiles by name."""
    return {name: profile_text(name) for name in profile_titles()}


def run(folder: Path, rng: random.Random) -> str:
    """Make one file and read it.

    Returns:
        ``ok`` or ``refused``.

    Raises:
        AssertionError: A message names no file or mend, or what was taken reads otherwise once it is written.
    """
    text = samples()[rng.choice(sorted(samples()))]
    kind, file = rng.randrange(4), folder / "params.yaml"
    if kind == 0:
        content = mutated(text.encode(), rng)
    elif kind == 1:
        lines = text.splitlines()
        for _ in range(rng.randint(1, 3)):
            _edit(lines, rng)
        content = "\n".join(lines).encode("utf-8", "surrogatepass")
    else:
        values = yaml.safe_load(text)
        for _ in range(rng.randint(1, 3)):
            values = _changed(values, rng)
        content = yaml.safe_dump(values, allow_unicode=rng.random() < 0.5, sort_keys=rng.random() < 0.5).encode()
    if rng.random() < 0.05:
        content = content.decode("utf-8", "replace").encode(rng.choice(ENCODINGS), "replace")
    file.write_bytes(content)
    try:
        params = load_params(file)
    except InputError as error:
        assert error.file is not None and error.mend, f"no file or mend in: {error}"
        assert len(str(error)) < 2000, f"a message of {len(str(error))} characters"
        str(error).encode()
        return "refused"
    again = folder / "again.yaml"
    again.write_text(yaml.safe_dump(params.model_dump(mode="json")), encoding="utf-8")
    assert load_params(again) == params, "written and read, the params are others"
    return "ok"


def _edit(lines: list[str], rng: random.Random) -> None:
    at = rng.randrange(len(lines)) if lines else 0
    kind = rng.randrange(5)
    if kind == 0 or not lines:
        lines.insert(at, " " * rng.choice([0, 0, 2, 4, 3]) + rng.choice(LINES))
    elif kind == 1:
        del lines[at]
    elif kind == 2:
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif kind == 3:
        lines[at] = lines[at].replace(": ", rng.choice([":", " : ", ": &a ", ": !!str ", ":\t", "：", ": '"]), 1)
    else:
        lines[at] = rng.choice([" ", "  ", "- ", "#"]) + lines[at]


def _changed(values: Any, rng: random.Random) -> Any:
    """Return the values with one changed, taken out, added or put in another place."""
    places = [()]
    for place in places:
        part = _at(values, place)
        keys = list(part) if isinstance(part, dict) else range(min(len(part), 3)) if isinstance(part, list) else ()
        places += [(*place, key) for key in keys]
    place = rng.choice(places)
    if not place:
        return rng.choice(VALUES) if rng.random() < 0.3 else values
    owner, value = _at(values, place[:-1]), copy.deepcopy(rng.choice(VALUES))
    kind = rng.randrange(6)
    if kind == 0 and isinstance(owner, dict):
        del owner[place[-1]]
    elif kind == 1 and isinstance(owner, dict):
        owner[rng.choice(("odd", "Seed", "", 1, None, True, 1.5, "a" * 300, "é"))] = value
    elif kind == 2:
        owner[place[-1]] = copy.deepcopy(_at(values, rng.choice(places)))
    elif kind == 3 and isinstance(owner[place[-1]], int | float):
        owner[place[-1]] = rng.choice((owner[place[-1]] * 2, -owner[place[-1]], float(owner[place[-1]]), str(value)))
    else:
        owner[place[-1]] = value
    return values


def _at(values: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        values = values[key]
    return values
