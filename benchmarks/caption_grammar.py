"""Sentences that read like captions, from WordNet's vocabulary and a grammar: text for `parser_training` to learn from.

WordNet 3.0 (Princeton University; its licence permits any use, copies and changes with its notice) gives nouns by what
they mean, verbs by what may follow them, and its glosses and examples, which are sentences themselves. Debian's package
``wordnet-base`` has it. The common words and the phrases below are the project's own.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate, islice
from pathlib import Path

from lemminflect import getInflection
from textblob.en import spelling

# By kind of noun: WordNet's senses whose narrower terms are of that kind, and the words that captions use most.
_NOUNS = {
    "person": ("person", "man woman boy girl person child kid guy lady baby player toddler adult worker rider athlete"),
    "animal": ("animal", "dog cat horse bird cow sheep elephant giraffe zebra bear puppy kitten duck monkey goat"),
    "clothes": (
        "clothing headdress footwear spectacles jewelry uniform",
        "shirt jacket hat helmet dress shorts jeans coat suit cap pants glasses sunglasses goggles sweater scarf boots"
        " shoes gloves uniform jersey tie skirt bikini swimsuit backpack vest tank_top t-shirt life_jacket baseball_cap"
        " bathing_suit collar harness leash costume mask outfit clothing clothes",
    ),
    "vehicle": (
        "vehicle craft",
        "bike bicycle motorcycle car truck bus train boat skateboard surfboard snowboard scooter kayak canoe van taxi"
        " plane airplane sled wagon cart tractor ship raft helicopter skis fire_truck dirt_bike mountain_bike",
    ),
    "food": (
        "food food.2 fruit beverage",
        "pizza cake sandwich apple banana orange carrot broccoli salad bread cheese coffee hot_dog soup ice_cream",
    ),
    "furniture": (
        "furniture furnishing",
        "table chair couch bed bench desk sofa lamp shelf counter sink toilet stove oven refrigerator dining_table",
    ),
    "tool": (
        "sports_equipment musical_instrument tool container device game_equipment toy",
        "ball bat racket frisbee umbrella guitar camera phone laptop book stick rope kite bottle cup glass bowl plate"
        " knife fork spoon basket box bag cell_phone remote_control tennis_ball baseball_bat teddy_bear vase clock"
        " scissors toy flag sign log bar rail pole ladder swing slide newspaper net ramp",
    ),
    "building": (
        "structure area.5 room way.6",
        "street road sidewalk building house store kitchen bathroom living_room office restaurant bar bridge park"
        " playground stadium court field pool parking_lot swimming_pool bus_stop train_station garden fountain fence"
        " wall gate stairs track path trail alley dock pier stage",
    ),
    "place": (
        "geological_formation body_of_water region.3 land.4 location geographical_area tract",
        "beach mountain hill river lake ocean snow grass sand water field forest desert cliff rock city sky shore wave"
        " mud dirt ground air background foreground distance middle front",
    ),
    "plant": ("plant.2 vegetation", "tree bush flower grass plant leaf branch hedge log vine rose shrub"),
    "body": ("body_part", "hand head arm face hair mouth leg foot back shoulder finger nose eye ear tail tongue beard"),
    "event": ("event social_event contest activity", "game race party wedding parade concert match competition trick"),
    "weather": ("atmospheric_phenomenon natural_phenomenon", "rain snow sun sunset wind fog storm night day shade"),
    "surface": ("surface layer top", "top side edge corner end surface floor roof ledge platform"),
    "picture": ("representation.2 communication", "picture photo image painting drawing poster graffiti mural sign"),
    "object": ("artifact", "door window building wall sign clock flag statue bottle pot tower machine box"),
    "matter": ("instrumentality toy decoration covering.2 fabric material substance", "metal wood glass paper rope"),
    "entity": ("entity", "thing"),
}
_SUBJECTS = ("person",) * 4 + ("animal", "animal", "vehicle", "matter", "object", "building", "entity")
_OBJECTS = ("tool", "tool", "food", "vehicle", "matter", "object", "animal", "person", "clothes", "body", "event")
_OBJECTS += ("entity", "furniture", "plant", "picture")
_PLACES = ("place", "place", "building", "building", "surface", "furniture", "matter", "weather", "event", "plant")
_PLACES += ("object", "vehicle")
_COLOURS = "red blue green yellow black white brown orange pink purple gray grey tan golden silver gold blond beige"
_ADJECTIVES = (
    "young old little small large big tall long short dirty wooden empty colorful busy crowded wet dry dark bright"
    " grassy snowy sandy rocky older elderly asian african furry fluffy shirtless bald thin muddy shaggy striped plaid"
    " plastic metal stone brick concrete open high low huge tiny wild urban rural modern happy other outdoor indoor"
    " light-colored white-haired middle-aged dark-haired bearded lone"
)
# By what follows: an object, a place or nothing.
_VERBS = {
    "object": "hold ride throw catch carry play watch eat wear push pull kick hit chase climb cross read drink paint"
    " jump use take make cut feed pet hug kiss walk lead touch bite face enjoy swing fly drive fix clean wash block",
    "place": "jump run stand sit walk look lie lean climb ride play fly swim dive fall slide float stare point splash"
    " leap rest wait pose bend kneel roll travel march drive head hop dance skateboard ski surf crouch sail step",
    "nothing": "jump run stand sit walk play smile swim sleep dance climb fly lie laugh talk sing rest pose work ride"
    " ski surf skate race dive wait crouch bend kneel lean slide fall fight wave shout dig splash float relax",
}
_PREPOSITIONS = (
    "in|on|at|with|near|by|from|over|through|across|into|under|behind|along|around|beside|down|up|against|for|toward|"
    "towards|above|onto|between|inside|outside|past|off|beneath|during|below|among|next to|in front of|on top of|"
    "out of|away from|at the edge of|in the middle of|on the side of"
)
_QUANTITIES = "several|many|some|some|a few|all|other|these|various|multiple|both|lots of|a lot of"
_GROUPS = (
    "a group of|a couple of|a bunch of|a crowd of|a pair of|a row of|a pile of|a herd of|groups of|a line of|a team of|"
    "a plate of|a bowl of|a piece of|a set of|a large group of|a small group of|rows of"
)
_SHOWN = "a picture of|a photo of|a close up of|a close-up of|a view of|this is|it is|an image of|a painting of"
_Frequencies = Mapping[str, float]


def glosses(wordnet: Path) -> Iterator[str]:
    """Yield WordNet's definitions and examples of three words or more."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (wordnet / f"data.{part}").read_text().splitlines():
            gloss = line.partition("| ")[2]
            pieces = re.sub(r'"[^"]*"', "", gloss).split(";") + re.findall(r'"([^"]+)"', gloss)
            stripped = (piece.strip(" ;,-") for piece in pieces)
            yield from (piece for piece in stripped if len(piece.split()) > 2)


class _WordNet:
    """Nouns by kind, verbs by what follows and adjectives, each with a weight that falls with its rarity."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._words: dict[str, list[str]] = {}
        self._narrower: dict[str, list[str]] = defaultdict(list)
        for offset, words, pointers in self._entries("noun"):
            self._words[offset] = words
            for target in re.findall(r"@ (\d{8}) n", pointers):
                self._narrower[target].append(offset)
        self._senses = self._index("noun")

    def _entries(self, part: str) -> Iterator[tuple[str, list[str], str]]:
        for line in (self._folder / f"data.{part}").read_text().splitlines():
            if not line.startswith(" "):
                head = line.partition("|")[0].split()
                count = int(head[3], 16)
                words = [word.replace("_", " ") for word in head[4 : 4 + 2 * count : 2]]
                yield head[0], words, " ".join(head[4 + 2 * count :])

    def _index(self, part: str) -> dict[str, list[str]]:
        lines = (self._folder / f"index.{part}").read_text().splitlines()
        fields = [line.split() for line in lines if not line.startswith(" ")]
        return {field[0].replace("_", " "): field[-int(field[2]) :] for field in fields}

    def nouns(self, anchors: str) -> dict[str, float]:
        """Return the narrower terms of the anchors ("plant.2": its second sense), compounds among them."""
        pairs = [anchor.partition(".") for anchor in anchors.split()]
        todo = [self._senses[name.replace("_", " ")][int(sense or 1) - 1] for name, _, sense in pairs]
        seen: set[str] = set()
        found: dict[str, float] = {}
        while todo:
            offset = todo.pop()
            if offset in seen:
                continue
            seen.add(offset)
            todo += self._narrower[offset]
            for word in filter(re.compile(r"[a-z]+([ -][a-z]+){0,2}").fullmatch, self._words[offset]):
                parts = [spelling.get(part, 0) for part in re.split("[ -]", word)]
                mentions = min(parts) if len(parts) == 1 else 0.15 * min(200, *parts)
                weight = (0.2 + mentions) ** 0.75 / (1 + self._senses[word].index(offset)) ** 1.5
                found[word] = max(found.get(word, 0), weight)
        return found

    def verbs(self, frames: frozenset[str]) -> dict[str, float]:
        """Return the verbs with one of WordNet's sentence frames."""
        senses = self._index("verb")
        found: dict[str, float] = defaultdict(float)
        for offset, words, rest in self._entries("verb"):
            if frames & set(re.findall(r"\+ (\d\d) 00", rest)):
                for word in filter(re.compile("[a-z]{2,}").fullmatch, words):
                    rank = senses[word].index(offset) if offset in senses.get(word, ()) else 3
                    found[word] += (0.2 + spelling.get(word, 0)) ** 0.7 / (1 + rank) ** 1.5
        return {word: weight for word, weight in found.items() if word not in {"be", "have", "do", "can", "will"}}

    def adjectives(self) -> dict[str, float]:
        """Return single words."""
        return {w: (0.2 + spelling.get(w, 0)) ** 0.6 for w in self._index("adj") if re.fullmatch("[a-z]+", w)}


class _Draw:
    """Draws words by weight; with a chance, one of the common words, by Zipf's law."""

    def __init__(self, weights: _Frequencies, common: str = "", chance: float = 0.0) -> None:
        self._words, self._sums = list(weights), list(accumulate(weights.values()))
        self._common = [word.replace("_", " ") for word in common.split()]
        self._common_sums = list(accumulate((rank + 3) ** -0.6 for rank in range(len(self._common))))
        self._chance = chance

    def __call__(self, dice: random.Random) -> str:
        """Return a word."""
        if dice.random() < self._chance:
            return dice.choices(self._common, cum_weights=self._common_sums)[0]
        return dice.choices(self._words, cum_weights=self._sums)[0]


def _form(word: str, tag: str) -> str:
    *start, last = word.split(" ")
    return " ".join([*start, *(getInflection(last, tag)[:1] or (last,))])


class CaptionGrammar:
    """Captions without end, the same ones for the same seed: subjects, what they do, to what, where, and while what."""

    def __init__(self, wordnet: Path, seed: int = 0) -> None:
        words = _WordNet(wordnet)
        self._dice = random.Random(seed)
        self._nouns = {kind: _Draw(words.nouns(anchors), common, 0.7) for kind, (anchors, common) in _NOUNS.items()}
        self._adjectives = _Draw(words.adjectives())
        frames = {"object": {"08", "09", "10", "11"}, "place": {"04", "12", "13", "22", "27"}, "nothing": {"01", "02"}}
        self._verbs = {
            kind: _Draw(words.verbs(frozenset(frames[kind])), common, 0.6) for kind, common in _VERBS.items()
        }

    def __iter__(self) -> Iterator[str]:
        """Yield captions."""
        while True:
            yield re.sub(" +", " ", self._sentence() + self._one(" .", ".", "", " .", ""))

    def _one(self, *choices: str) -> str:
        return self._dice.choice(choices)

    def _of(self, *choices: tuple[float, str]) -> str:
        """Return one choice by the weights."""
        return self._dice.choices([text for _, text in choices], [weight for weight, _ in choices])[0]

    def _chance(self, probability: float) -> bool:
        return self._dice.random() < probability

    def _colour(self) -> str:
        return self._dice.choice(_COLOURS.split())

    def _verb(self, kind: str, tag: str = "VB") -> str:
        verb = self._verbs[kind](self._dice)
        return verb if tag == "VB" else _form(verb, tag)

    def _kind_of_verb(self) -> str:
        return self._one("object", "object", "place", "place", "nothing")

    def _adjective(self) -> str:
        kind = self._of((40, "colour"), (32, "common"), (14, "any"), (6, "VBG"), (5, "VBN"), (3, "shade"))
        if kind == "colour":
            return self._colour()
        if kind == "common":
            return self._dice.choice(_ADJECTIVES.split())
        if kind == "shade":
            return self._one("light", "dark", "bright") + self._one(" ", "-") + self._colour()
        return (
            self._adjectives(self._dice)
            if kind == "any"
            else self._verb("nothing" if kind == "VBG" else "object", kind)
        )

    def _described(self, kind: str) -> str:
        """Return a noun with the compounds and adjectives before it."""
        noun = self._nouns[kind](self._dice)
        if self._chance(0.07):
            noun = f"{self._nouns[self._dice.choice([*_OBJECTS, *_PLACES])](self._dice)} {noun}"
        elif self._chance(0.012):
            noun = f"{self._verb('nothing', 'VBG')} {noun}"
        number = self._of((52, "none"), (4, "colours"), (30, "one"), (14, "two"))
        if number == "none":
            return noun
        if number == "colours":
            return f"{self._colour()}{self._one(' and ', ' and ', ' , ')}{self._colour()} {noun}"
        second = self._one(" ", " ", ", ", " , ", " and ") + self._adjective() if number == "two" else ""
        return f"{self._adjective()}{second} {noun}"

    def _bare_phrase(self, kind: str) -> tuple[str, bool]:
        """Return a noun phrase without what may follow it, and whether it is plural."""
        noun = self._described(kind)
        plural = _form(noun, "NNS")
        form = self._of(
            (44, "a"), (16, "the"), (6, "the many"), (12, "bare many"), (9, "number"), (3, "quantity"), (3, "group"),
            (3, "whose"), (1.5, "possessive"), (1, "short"), (1.5, "bare"),
        )  # fmt: skip
        if form == "a":
            article = "an" if noun[0] in "aeiou" else "a"
            uncounted = kind == "weather" or (kind in {"food", "place", "plant"} and self._chance(0.3))
            return (noun if uncounted else f"{article} {noun}"), False
        if form == "group":
            group, many = self._one(*_GROUPS.split("|")), self._chance(0.8)
            return f"{group} {plural if many else noun}", self._chance(0.3)
        if form == "short" and kind in {"person", "animal"}:
            plural = self._one("people", "children", "men", "women", "kids", "two", "they")
            return (
                (plural, True)
                if self._chance(0.6)
                else (self._one("someone", "one", "he", "she", "it", "another"), False)
            )
        singles = {
            "the": f"the {noun}",
            "whose": f"{self._one('his', 'her', 'their', 'its', 'another', 'one', 'each', 'this', 'that')} {noun}",
            "possessive": self._one("a ", "the ") + self._nouns["person"](self._dice) + self._one("'s ", " 's ") + noun,
        }
        many = {
            "the many": f"the {plural}",
            "bare many": plural,
            "number": f"{self._one('two', 'two', 'three', 'three', 'four', 'five', 'six', 'ten', '2', '3')} {plural}",
            "quantity": f"{self._one(*_QUANTITIES.split('|'))} {plural}",
        }
        return (many[form], True) if form in many else (singles.get(form, noun), False)

    def _phrase(self, kinds: tuple[str, ...], depth: int = 0) -> tuple[str, bool]:
        """Return a noun phrase with what follows it, less often the deeper it is."""
        kind = self._dice.choice(kinds)
        text, plural = self._bare_phrase(kind)
        followed = (0.36, 0.13, 0.0)[min(depth, 2)]
        chance = self._dice.random()
        if chance < followed:
            return f"{text} {self._follows(kind, plural, depth + 1)}", plural
        if depth < 2 and chance < followed + 0.08:
            third = self._one(" , ", ", ") + self._phrase((kind,), depth + 1)[0] if self._chance(0.25) else ""
            return (
                f"{text}{third}{self._one(' and ', ' and ', ' , ', ' or ')}{self._phrase((kind,), depth + 1)[0]}",
                True,
            )
        return text, plural

    def _follows(self, kind: str, plural: bool, depth: int) -> str:
        if kind == "person" and self._chance(0.4):
            worn = self._phrase(("clothes",), depth)[0]
            if self._chance(0.15):
                worn = self._one("", "all ") + self._colour() + self._one("", "", f" and {self._colour()}")
            return f"{self._one('in', 'in', 'wearing', 'with', 'dressed in')} {worn}"
        which = self._of((17, "clause"), (25, "VBG"), (12, "VBN"), (10, "of"), (36, "place"))
        if which == "clause":
            return f"{self._one('who', 'that', 'which', 'who')} {self._predicate(plural, depth + 1)}"
        if which == "VBG":
            return self._doing(depth)
        if which == "VBN":
            return f"{self._verb('object', 'VBN')} {self._place(depth)}"
        return f"of {self._phrase(_OBJECTS, depth)[0]}" if which == "of" else self._place(depth)

    def _place(self, depth: int = 0) -> str:
        ranks = [1 / (1 + rank) ** 0.8 for rank in range(_PREPOSITIONS.count("|") + 1)]
        preposition = self._dice.choices(_PREPOSITIONS.split("|"), ranks)[0]
        return f"{preposition} {self._phrase(_PLACES if self._chance(0.85) else _OBJECTS, depth + 1)[0]}"

    def _complement(self, kind: str, depth: int) -> str:
        if kind == "object":
            place = f" {self._place(depth + 1)}" if self._chance(0.35) else ""
            return self._phrase(_OBJECTS, depth + 1)[0] + place
        if kind == "place":
            particle = self._one(
                "", "", "", "", "", "up ", "down ", "out ", "off ", "around ", "away ", "back ", "together "
            )
            return particle + self._place(depth + 1) + (f" {self._place(depth + 1)}" if self._chance(0.15) else "")
        alone = self._one(
            "together", "outside", "around", "quickly", "outdoors", "down", "up", "happily", "alone", "by"
        )
        return self._of((40, ""), (10, alone), (50, self._place(depth + 1)))

    def _doing(self, depth: int) -> str:
        kind = self._kind_of_verb()
        verb = self._verb(kind, "VBG")
        if self._chance(0.05):
            verb = f"{self._one('getting ready', 'trying', 'about', 'preparing')} to {self._verb(kind)}"
        return f"{verb} {self._complement(kind, depth)}"

    def _predicate(self, plural: bool, depth: int = 0) -> str:
        kind, be = self._kind_of_verb(), "are" if plural else "is"
        present = "VB" if plural else "VBZ"
        which = self._of(
            (38, "doing"), (38, "does"), (4, "did"), (6, "done"), (4, "place"), (3, "adjective"), (2, "noun"),
            (2, "has"), (3, "to"),
        )  # fmt: skip
        if which in {"doing", "does", "did"}:
            verb = self._verb(kind, {"doing": "VBG", "does": present, "did": "VBD"}[which])
            text = f"{be if which == 'doing' else ''} {verb} {self._complement(kind, depth)}".strip()
        elif which == "done":
            by = f"by {self._phrase(('person', 'animal'), depth + 1)[0]}"
            text = f"{be} {self._verb('object', 'VBN')} {self._one('', self._place(depth + 1), by)}"
        elif which == "to":
            start = _form(self._one("try", "begin", "prepare", "start", "want"), present)
            text = f"{start} to {self._verb(kind)} {self._complement(kind, depth)}"
        elif which == "has":
            text = f"{'have' if plural else 'has'} {self._phrase(('body', 'clothes', 'tool'), depth + 1)[0]}"
        elif which == "adjective":
            text = f"{be} {self._adjective()}{self._one('', ' and ' + self._adjective())}"
        else:
            text = f"{be} {self._place(depth) if which == 'place' else self._phrase(_OBJECTS, depth + 1)[0]}"
        return text if depth else text + self._continued(present)

    def _continued(self, present: str) -> str:
        which = self._of((64, ""), (12, "and"), (14, "doing"), (10, "clause"))
        if which == "and":
            return f"{self._one(' and ', ' and ', ' , ')}{self._verb('place', present)} {self._complement('place', 1)}"
        if which == "doing":
            return self._one(" while ", " , ", " , ", " and ", " by ") + self._doing(1)
        if which == "clause":
            return self._one(" while ", " as ", " , ", " , and ", " and ", " because ", " so ") + self._clause(1)
        return ""

    def _clause(self, depth: int = 0) -> str:
        subject, plural = self._phrase((self._dice.choice(_SUBJECTS),), depth)
        return f"{subject} {self._predicate(plural, depth)}"

    def _sentence(self) -> str:
        anything = (*_SUBJECTS, *_OBJECTS, *_PLACES)
        which = self._of(
            (50, "clause"), (14, "doing"), (12, "place"), (4, "there"), (3, "shown"), (4, "place first"), (5, "phrase"),
            (5, "list"), (3, "no subject"),
        )  # fmt: skip
        if which == "doing":
            return self._phrase(_SUBJECTS)[0] + self._one(" ", " ", " ", " , ") + self._doing(0)
        if which == "place":
            return f"{self._phrase(anything)[0]} {self._place()} {self._one('', self._place(1))}"
        if which == "there":
            text, plural = self._phrase(anything)
            there = f"{self._one('there', 'there', 'here')} {'are' if plural else 'is'}"
            return f"{there} {text} {self._one('', self._place(1))}"
        if which == "shown":
            return f"{self._one(*_SHOWN.split('|'))} {self._phrase(anything)[0]} {self._one('', self._place(1))}"
        if which == "place first":
            return self._place(1) + self._one(" , ", ", ", " ") + self._clause(1)
        if which == "phrase":
            return self._phrase(anything)[0]
        if which == "list":
            first, second, last = (self._phrase(anything, 2)[0] for _ in range(3))
            return f"{first}, {second}{self._one(' and ', ', and ', ' , ')}{last}"
        return self._doing(0) if which == "no subject" else self._clause()


def captions(wordnet: Path, number: int, seed: int = 0) -> list[str]:
    """Return so many captions."""
    return list(islice(CaptionGrammar(wordnet, seed), number))
