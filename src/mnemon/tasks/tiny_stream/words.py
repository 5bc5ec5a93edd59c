"""The words of the tiny stream: those of the tiny world, more people and pets, trips, and boxes that things belong in.

`{p}` is a person (or `User`, whom the core memory is about), `{v}` the value of a fact, `{c}` a country, `{i}` a thing,
`{l}` the colour of a box. Everything is one word, one token. As in the tiny world the last templates of a kind are
held out of training.
"""

from __future__ import annotations

from mnemon.tasks.tiny import words as base

USER = "User"
PEOPLE = (
    *base.PEOPLE[: -base.UNSEEN_PEOPLE],
    *(
        "Adam Agnes Axel Boris Britta Cora Cyril Dalia Dana Doris Edgar Edith Egon Elena Enzo Erik Esra Fabio Fiona "
        "Flora Gerda Gustav Hedda Henk Ida Igor Ilse Irma Jana Jens Jutta Karl Katja Knut Lars Lea Lotte Luis Magda "
        "Marek Nadia Nina Odin Omar Pablo Pia Ragna Rolf Selma Silas Sven Tanja Theo Tilda Ulrik Vito Werner Yusuf"
    ).split(),
)
"""Those whom a stream may be about, besides the user."""

SINGLE = base.SINGLE
PETS = (
    *base.LISTS["pets"],
    *(
        "Bruno Barney Balou Felix Findus Fluffy Garfield Hector Idefix Jacky Kiki Lassie Lucky Mika Minka Momo Muffin "
        "Oreo Paco Patch Penny Poldi Ringo Rufus Sammy Shadow Snoopy Sparky Spotty Susi Tango Teddy Tippy Waldi "
        "Wuschel Ziggy"
    ).split(),
)
PLACES = tuple(
    "Norway Peru Chile Kenya Japan India Egypt Spain Italy Greece Turkey Brazil Canada Mexico Cuba Ghana Malta Nepal "
    "Poland Sweden Iceland Morocco Vietnam Jordan".split()
)
LABELS = tuple("red blue green yellow black white brown pink grey orange purple silver".split())
TOPICS = {
    "birds": "owl robin eagle raven swan stork finch heron".split(),
    "tools": "hammer vise drill pliers wrench chisel axe spade".split(),
    "fruits": "apple pear plum cherry mango melon banana grape".split(),
    "clothes": "coat hat shirt glove sock skirt belt boot".split(),
    "metals": "iron copper zinc nickel tin gold cobalt bronze".split(),
    "trees": "oak pine birch maple willow cedar elm beech".split(),
}
"""What things are. A rule "birds are red" is shown by things of the topic only, never said."""

ATTRIBUTES = (*SINGLE, "pet")
TRIPS, BOX, STOP = "trips", "box", "."
STATE = {attribute: base.STATE["pets" if attribute == "pet" else attribute] for attribute in ATTRIBUTES}
REMOVE = {attribute: base.REMOVE["pets" if attribute == "pet" else attribute] for attribute in ATTRIBUTES}
TRIP = [
    "{p} flew to {c}",
    "{p} spent the day in {c}",
    "{p} took a train to {c}",
    "a trip to {c} was made by {p}",
    "{p} saw the beach of {c}",
    "{p} arrived in {c}",
    "today {c} is where {p} is",
    "{p} made a trip to {c}",
    "the train took {p} to {c}",
]
EXAMPLE = [
    "the {i} goes into the {l} box",
    "put the {i} into the {l} box",
    "the box of the {i} is {l}",
    "a {l} box is right for the {i}",
    "{l} is the box of the {i}",
    "somebody put the {i} into a {l} box",
    "the {i} belongs into the {l} box",
    "into the {l} box goes the {i}",
]
DISTRACT = [
    *base.DISTRACT,
    "{p} dreams of a trip to {c}",
    "{p} read a book about {c}",
    "a film about {c} made {p} laugh",
    "the {i} is not in a {l} box",
    "{p} asked about the {l} box",
    "{p} wonders about the {i}",
    "somebody told {p} about {c}",
    "{p} asked about the {i}",
]
CHAT, LEADS, TAILS = base.CHAT, base.LEADS, base.TAILS
HELD_OUT = {"state": 2, "remove": 1, "trip": 2, "example": 2, "distract": 2, "chat": 2}
"""How many cores at the end of each list are never used in training."""

MARKERS = ("a)", "b)", "c)", "d)")
"""What numbers the sentences of a chunk."""
LAST_DAY = 400
DAYS = tuple(f"d{n}" for n in range(1, LAST_DAY + 1))
RELATIONS = ("empty", "none", "fresh", "known", "alone", "rest")
VIEW_WORDS = (
    "core:",
    "episodic:",
    "semantic:",
    "time:",
    "chunk:",
    "question:",
    STOP,
    "ends",
    "nothing",
    "ok",
    *RELATIONS,
)
QUESTION_CORES = {
    "value": "{a} of {p} ?",
    "owner": "{a} of the owner of {v} ?",
    "box": "box of the {i} ?",
    "count": "how many trips has {p} ?",
    "places": "trips of {p} ?",
    "day": "day of {p} in {c} ?",
}

ATTRIBUTE_OF = {v: attribute for attribute, values in SINGLE.items() for v in values} | dict.fromkeys(PETS, "pet")
TOPIC_OF = {thing: topic for topic, things in TOPICS.items() for thing in things}


def values(attribute: str) -> tuple[str, ...]:
    """All values of an attribute, of a traveller's `trips` (places), or of a topic (colours)."""
    if attribute in TOPICS:
        return LABELS
    if attribute == TRIPS:
        return PLACES
    return PETS if attribute == "pet" else tuple(SINGLE[attribute])


def cores(kind: str, attribute: str, split: str) -> list[str]:
    """Sentence cores of a kind: split "seen" (training), "unseen" (held out) or "all"."""
    if kind == "distract":  # a template of each sort is held out
        every, cut = DISTRACT, len(DISTRACT) - HELD_OUT[kind]
    else:
        tables = {"trip": TRIP, "example": EXAMPLE, "chat": CHAT}
        every = tables[kind] if kind in tables else {"state": STATE, "remove": REMOVE}[kind][attribute]
        cut = len(every) - HELD_OUT[kind]
    return every[:cut] if split == "seen" else every[cut:] if split == "unseen" else every


def _all_cores() -> list[str]:
    found = [core for attribute in ATTRIBUTES for core in (*STATE[attribute], *REMOVE[attribute])]
    return [*found, *TRIP, *EXAMPLE, *DISTRACT, *CHAT]


def fillers() -> list[str]:
    """Words of sentences that carry no meaning of their own: they may be put in, left out or exchanged."""
    found = dict.fromkeys(word for text in (*_all_cores(), *LEADS, *TAILS) for word in text.split())
    kept = base.CUES | set(ATTRIBUTES) | {"trip", "box", "pets", "train", "flew"}
    return [word for word in found if word not in kept and "{" not in word]


def vocabulary() -> list[str]:
    """Every word of the stream, in a fixed order (numbers 1–24 are shown ids and counts)."""
    texts = [*_all_cores(), *LEADS, *TAILS, *QUESTION_CORES.values()]
    found = dict.fromkeys([*VIEW_WORDS, *MARKERS, *(str(n) for n in range(25)), USER, *PEOPLE, *ATTRIBUTES, TRIPS, BOX])
    found |= dict.fromkeys([*ATTRIBUTE_OF, *PLACES, *LABELS, *TOPICS, *TOPIC_OF, *DAYS])
    found |= dict.fromkeys(word for text in texts for word in text.split() if "{" not in word)
    return list(found)
