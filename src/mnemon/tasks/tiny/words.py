"""The words of the tiny world: people, attributes, values and sentence templates. Everything is one word, one token.

`{p}` is a person, `{v}` a value. A sentence is a core, sometimes with a lead before it and a tail behind it. Cores
marked as held out are never used in training: `unseen templates` in reports. Their words occur in training.
"""

from __future__ import annotations

PEOPLE = (
    "Anna Ben Cara Dan Eva Finn Gina Hugo Iris Jack Kira Leo Mona Nils Olga Paul Rita Sam Tina Udo Vera Wilma Xena Yara "
    "Zoe Alan Bella Carl Dora Emil Frida Greg Hanna Ivan Julia Kurt Lena Mark Nora Otto Petra Quinn Ralf Sara Toni Ursula "
    "Viktor Wanda Abel Berta Cleo Dirk Elsa Fritz Greta Heinz Inga Jonas Klara Lukas Maja Niko Oskar Paula"
).split()
"""64 names; the last 16 never occur in training (`unseen people` in reports)."""

UNSEEN_PEOPLE = 16

SINGLE = {
    "city": "Paris Rome Oslo Lima Cairo Delhi Tokyo Quito Dakar Berlin Madrid Vienna Prague Dublin Athens Boston".split(),
    "job": "nurse baker pilot lawyer farmer tailor singer barber butcher plumber teacher painter dentist broker editor clerk".split(),
    "car": "Fiat Audi Volvo Skoda Honda Mazda Tesla Lada Opel Kia Ford Jeep Saab Seat".split(),
    "drink": "tea coffee juice cocoa milk cider water lemonade soda wine beer mead punch tonic".split(),
    "team": "Lions Tigers Bears Hawks Wolves Sharks Bulls Eagles Foxes Panthers Ravens Cobras Rams Hornets".split(),
    "band": "Comets Embers Pilgrims Lanterns Nomads Sirens Mirrors Shadows Rivers Anchors Sparrows Velvets Thunders Orchids".split(),
}
"""Attributes with one value at a time."""

LISTS = {
    "pets": "Rex Scout Buddy Luna Milo Daisy Rocky Nala Coco Toby Nemo Simba Pluto Whisky Biscuit Pepper Ginger Cookie".split(),
    "hobbies": "chess yoga golf surfing sewing hiking skating fishing skiing running boxing rowing knitting pottery judo archery cycling gardening".split(),
    "languages": "Dutch Greek Hindi Latin Welsh Czech Danish Finnish Polish Arabic Swahili Korean Irish Basque".split(),
    "instruments": "piano flute cello harp banjo guitar violin trumpet oboe drums organ ukulele clarinet accordion".split(),
}
"""Attributes with several values."""

ATTRIBUTES = (*SINGLE, *LISTS)

STATE: dict[str, list[str]] = {
    "city": [
        "{p} lives in {v}",
        "{p} moved to {v}",
        "the home of {p} is in {v}",
        "{p} has a flat in {v}",
        "{v} is where {p} lives",
        "{p} found a house in {v}",
        "you can visit {p} at home in {v}",
    ],
    "job": [
        "{p} works as a {v}",
        "{p} became a {v}",
        "the job of {p} is {v}",
        "{p} earns money as a {v}",
        "{p} got hired as a {v}",
        "as a {v} is how {p} earns money",
        "{p} took a job as a {v}",
    ],
    "car": [
        "{p} drives a {v}",
        "{p} bought a {v}",
        "the car of {p} is a {v}",
        "{p} parked the {v} at home",
        "a {v} is the car that {p} drives",
        "{p} goes to work in a {v}",
        "{p} got a {v} as a car",
    ],
    "drink": [
        "{p} likes to drink {v}",
        "{p} orders {v} in every bar",
        "the drink of {p} is {v}",
        "{p} wants a cup of {v}",
        "{v} is what {p} drinks",
        "{p} drinks {v} at breakfast",
        "give {p} a cup of {v} at breakfast",
    ],
    "team": [
        "{p} supports the {v}",
        "{p} is a fan of the {v}",
        "the team of {p} is the {v}",
        "{p} cheers for the {v}",
        "the {v} are the team that {p} supports",
        "{p} wears the scarf of the {v}",
        "{p} has a ticket for the {v}",
    ],
    "band": [
        "{p} sings in the {v}",
        "{p} joined the {v}",
        "the band of {p} is the {v}",
        "{p} is on stage with the {v}",
        "the {v} are the band of {p}",
        "{p} records a song with the {v}",
        "{p} writes every song for the {v}",
    ],
    "pets": [
        "{p} adopted {v}",
        "{p} has a pet called {v}",
        "a pet of {p} is {v}",
        "{p} feeds {v} every day",
        "{v} is a pet of {p}",
        "{p} walks with {v} every day",
        "{p} takes care of a pet called {v}",
    ],
    "hobbies": [
        "{p} enjoys {v}",
        "{p} took up {v}",
        "a hobby of {p} is {v}",
        "{p} does {v} on sunday",
        "{v} is a hobby of {p}",
        "{p} spends the evening with {v}",
        "{p} goes to a {v} club",
    ],
    "languages": [
        "{p} speaks {v}",
        "{p} learned {v}",
        "{p} can talk in {v}",
        "{p} took a course in {v}",
        "{v} is a language that {p} speaks",
        "{p} can read a book in {v}",
        "{p} passed a test in {v}",
    ],
    "instruments": [
        "{p} plays the {v}",
        "{p} practises the {v}",
        "{p} has lessons on the {v}",
        "{p} can play the {v}",
        "the {v} is what {p} plays",
        "{p} gave a concert on the {v}",
        "{p} owns a {v} and plays it",
    ],
}
"""Cores that state a fact; whether it is new, a change, one more or known already, only the memory can tell."""

REMOVE: dict[str, list[str]] = {
    "city": ["{p} left {v}", "{p} no longer lives in {v}", "{p} gave up the flat in {v}", "{p} moved away from {v}"],
    "job": [
        "{p} quit the job as a {v}",
        "{p} is no longer a {v}",
        "{p} lost the job as a {v}",
        "{p} stopped to work as a {v}",
    ],
    "car": ["{p} sold the {v}", "{p} no longer drives a {v}", "{p} lost the {v}", "{p} got rid of the {v}"],
    "drink": ["{p} gave up {v}", "{p} no longer drinks {v}", "{p} is done with {v}", "{p} stopped to drink {v}"],
    "team": [
        "{p} is no longer a fan of the {v}",
        "{p} turned away from the {v}",
        "{p} gave up the {v}",
        "{p} no longer supports the {v}",
    ],
    "band": ["{p} left the {v}", "{p} is no longer in the {v}", "{p} quit the {v}", "{p} is done with the {v}"],
    "pets": ["{p} gave {v} away", "{p} no longer has {v}", "{p} lost {v}", "{v} ran away from {p}"],
    "hobbies": ["{p} gave up {v}", "{p} is done with {v}", "{p} quit {v}", "{p} stopped {v}"],
    "languages": ["{p} forgot {v}", "{p} no longer speaks {v}", "{p} lost the {v} of school", "{p} gave up {v}"],
    "instruments": [
        "{p} sold the {v}",
        "{p} no longer plays the {v}",
        "{p} gave up the {v}",
        "{p} stopped to play the {v}",
    ],
}
"""Cores that end a fact."""

DISTRACT = [
    "{p} asked about {v}",
    "{p} read about {v}",
    "{p} dreamed of {v}",
    "a film about {v} made {p} laugh",
    "{p} saw a picture of {v}",
    "somebody told {p} about {v}",
    "{p} heard a joke about {v}",
    "{p} wonders about {v}",
    "{p} saw a film about {v}",
    "a joke about {v} made {p} laugh",
]
"""Cores that name a person and a value but state no fact."""

CHAT = [
    "the weather is nice today",
    "how are you",
    "what a day",
    "it may rain tomorrow",
    "that was a long day",
    "the concert in the evening was long",
    "who takes care of the scarf and the ticket",
    "he writes and records a song",
    "she owns a house and goes to work",
    "the club spends the evening with a book",
    "give me a test of your car",
    "the rain stopped and we ran home",
    "he found and wears a scarf",
    "it walks and sits at breakfast",
    "she passed by on a visit",
    "get rid of the long book",
    "how is your house",
    "thank you so much",
    "it was nice to see you",
    "how was your day",
]

LEADS = ["by the way", "so", "guess what", "well", "I heard that", "as you know", "they say that", "news :"]
TAILS = ["now", "these days", "I think", "again", "in fact", "you see", "since monday", "they say"]

HELD_OUT = {"state": 2, "remove": 1, "distract": 2, "chat": 2}
"""How many cores at the end of each list are never used in training."""

VIEW_WORDS = [
    "memories:",
    "event:",
    "question:",
    "none",
    "nothing",
    "match",
    "ends",
    "known",
    "fresh",
    "alone",
    "rest",
    "yes",
    "no",
    "unknown",
]
CUES = frozenset(
    "no longer not left gave give up away quit lost stopped sold got rid done forgot ran turned from".split()
)
"""Words that may tell that a fact ends: never put into a sentence at random."""

QUESTION_CORES = {
    "value": "{a} of {p} ?",
    "count": "how many {a} has {p} ?",
    "whose": "who has {a} {v} ?",
    "yesno": "has {p} {a} {v} ?",
}


def cores(kind: str, attribute: str, split: str) -> list[str]:
    """Sentence cores of a kind: split "seen" (training), "unseen" (held out) or "all"."""
    table = {"state": STATE, "remove": REMOVE}.get(kind)
    every = table[attribute] if table is not None else DISTRACT if kind == "distract" else CHAT
    cut = len(every) - HELD_OUT[kind]
    return every[:cut] if split == "seen" else every[cut:] if split == "unseen" else every


def values(attribute: str) -> list[str]:
    """All values of an attribute."""
    return SINGLE[attribute] if attribute in SINGLE else LISTS[attribute]


ATTRIBUTE_OF = {value: attribute for attribute in ATTRIBUTES for value in values(attribute)}


def fillers() -> list[str]:
    """Words of seen cores, leads and tails that carry no meaning of their own."""
    found: dict[str, None] = {}
    for attribute in ATTRIBUTES:
        for core in (*cores("state", attribute, "seen"), *cores("remove", attribute, "seen")):
            found.update(dict.fromkeys(core.split()))
    for text in (*cores("chat", "", "seen"), *LEADS, *TAILS):
        found.update(dict.fromkeys(text.split()))
    return [word for word in found if word not in CUES and word not in ATTRIBUTES and "{" not in word]


def vocabulary() -> list[str]:
    """Every word of the world, in a fixed order (numbers 1–24 are list positions and counts)."""
    words: dict[str, None] = dict.fromkeys(VIEW_WORDS)
    words.update(dict.fromkeys(str(n) for n in range(25)))
    words.update(dict.fromkeys(PEOPLE))
    words.update(dict.fromkeys(ATTRIBUTES))
    words.update(dict.fromkeys(ATTRIBUTE_OF))
    for attribute in ATTRIBUTES:
        for core in (*STATE[attribute], *REMOVE[attribute]):
            words.update(dict.fromkeys(core.split()))
    for core in (*DISTRACT, *CHAT, *LEADS, *TAILS, *QUESTION_CORES.values()):
        words.update(dict.fromkeys(core.split()))
    for slot in ("{p}", "{v}", "{a}"):
        words.pop(slot, None)
    return list(words)
