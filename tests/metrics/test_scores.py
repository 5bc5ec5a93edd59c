"""Every string score against figures computed with the reference implementations, and what must hold of any text."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.metrics import SCORERS, graded, rouge_l_parts, scorer, word_tokens
from mnemon.types import MnemonError

GOLD_LIST = "pottery, camping, painting, swimming"
COLUMNS = ["em_mem0", "f1_mem0", "bleu1_mem0", "f1_locomo", "f1_locomo 1", "em_squad", "f1_hotpot", "sub_squad"]
COLUMNS += ["sub_raw", "rouge_l"]
PINNED: list[tuple[str, str, Sequence[float]]] = [
    ("Painting", "paint", (0, 0.000, 0.000, 1.000, 1.000, 0, 0.000, 1, 1, 1.000)),
    ("paint", "Painting", (0, 0.000, 0.000, 1.000, 1.000, 0, 0.000, 0, 0, 1.000)),
    ("dogs", "dog", (0, 0.000, 0.000, 1.000, 1.000, 0, 0.000, 1, 1, 1.000)),
    ("The dog", "dog", (0, 0.667, 0.500, 1.000, 1.000, 1, 1.000, 1, 1, 0.667)),
    ("dog.", "dog", (0, 1.000, 0.500, 1.000, 1.000, 1, 1.000, 1, 1, 1.000)),
    ("cat cat cat", "cat", (0, 1.000, 0.333, 0.500, 0.500, 0, 0.500, 1, 1, 0.500)),
    ("the the cat", "the cat", (0, 1.000, 0.667, 1.000, 1.000, 1, 1.000, 1, 1, 0.800)),
    ("the cat sat", "the cat sat on the mat", (0, 0.750, 0.368, 0.667, 0.667, 0, 0.667, 0, 0, 0.667)),
    ("on the mat the cat sat", "the cat sat on the mat", (0, 1.000, 1.000, 1.000, 1.000, 0, 1.000, 0, 0, 0.500)),
    ("May 7, 2023", "7 May 2023", (0, 1.000, 0.750, 1.000, 0.800, 0, 1.000, 0, 0, 0.667)),
    ("7 May, 2023.", "7 May 2023", (0, 1.000, 0.600, 1.000, 0.800, 1, 1.000, 1, 0, 1.000)),
    ("On 7 May 2023", "7 May 2023", (0, 0.857, 0.750, 0.857, 0.857, 0, 0.857, 1, 1, 0.857)),
    ("7 May 2023", "7 May, 2023", (0, 1.000, 0.717, 1.000, 0.650, 1, 1.000, 1, 0, 1.000)),
    ("Charlotte's Web", '"Charlotte\'s Web"', (0, 0.000, 0.513, 1.000, 1.000, 1, 1.000, 1, 0, 1.000)),
    ("U.S.", "US", (0, 0.000, 0.000, 1.000, 1.000, 1, 1.000, 1, 0, 0.000)),
    ("$350,000", "350000", (0, 0.000, 0.000, 1.000, 0.000, 1, 1.000, 1, 0, 0.000)),
    ("well-being", "well being", (0, 0.000, 0.000, 0.000, 0.000, 0, 0.000, 0, 0, 1.000)),
    ("pottery, swimming", GOLD_LIST, (0, 0.667, 0.264, 0.667, 0.500, 0, 0.667, 0, 0, 0.667)),
    ("swimming and pottery", GOLD_LIST, (0, 0.571, 0.176, 0.667, 0.333, 0, 0.571, 0, 0, 0.286)),
    ("pottery and swimming", "pottery, swimming", (0, 0.800, 0.667, 1.000, 0.667, 0, 0.800, 0, 0, 0.800)),
    ("salt pepper", "salt and pepper", (0, 0.800, 0.607, 1.000, 1.000, 0, 0.800, 0, 0, 0.800)),
    ("yes, she did", "yes", (0, 0.500, 0.250, 0.500, 1.000, 0, 0.000, 1, 1, 0.500)),
    ("Paris", "paris, france", (0, 0.667, 0.135, 0.667, 0.500, 0, 0.667, 0, 0, 0.667)),
    ("In 2022.", "2022", (0, 0.667, 0.333, 0.667, 0.667, 0, 0.667, 1, 1, 0.667)),
    ("label: 43", "43", (0, 0.667, 0.333, 0.667, 0.667, 0, 0.667, 1, 1, 0.667)),
    ("143", "43", (0, 0.000, 0.000, 0.000, 0.000, 0, 0.000, 1, 1, 0.000)),
    ("", "cat", (0, 0.000, 0.000, 0.000, 0.000, 0, 0.000, 0, 0, 0.000)),
]


@pytest.mark.parametrize(("prediction", "gold", "expected"), PINNED)
def test_pinned(prediction: str, gold: str, expected: Sequence[float]) -> None:
    found = {}
    for column in COLUMNS:
        name, _, category = column.partition(" ")
        found[column] = SCORERS[name](prediction, [gold], category)
    assert found == pytest.approx(dict(zip(COLUMNS, expected, strict=True)), abs=5.1e-4)


def test_f1_squad_and_hotpot() -> None:
    assert SCORERS["f1_squad"]("yes it is", ["yes"], "") == 0.5
    assert SCORERS["f1_hotpot"]("yes it is", ["yes"], "") == 0
    assert SCORERS["f1_hotpot"]("yes", ["Yes."], "") == 1
    assert SCORERS["f1_hotpot"]("Paris, France", ["Paris"], "") == pytest.approx(2 / 3)
    assert SCORERS["f1_hotpot"]("France", ["Paris", "France"], "") == 1
    assert SCORERS["f1_squad"]("the", ["a"], "") == 1
    assert SCORERS["f1_squad"]("the", ["cat"], "") == 0
    assert SCORERS["f1_hotpot"]("the", ["a"], "") == 0


def test_em_locomo_compares_sets() -> None:
    assert SCORERS["em_locomo"]("cat and cat, dog", ["The dog cat"], "") == 1
    assert SCORERS["em_locomo"]("cats", ["cat"], "") == 0


def test_rouge_l() -> None:
    killed = ("police kill the gunman", "police killed the gunman")
    assert rouge_l_parts(*killed) == (1, 1, 1)
    assert rouge_l_parts(*killed, stemmed=False)[2] == 0.75
    assert rouge_l_parts("gunman the killed police", killed[1])[2] == 0.25
    assert SCORERS["f1_mem0"]("gunman the killed police", [killed[1]], "") == 1
    assert SCORERS["rouge_l_recall"]("the cat sat down there", ["cat there"], "") == 1
    assert rouge_l_parts("", "x") == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("charlotte's web", "charlotte 's web"),
        ('"charlotte\'s web"', "`` charlotte 's web ''"),
        ("$350,000", "$ 350,000"),
        ("don't", "do n't"),
        ("i cannot; she's (sort of) gone...", "i can not ; she 's ( sort of ) gone ..."),
        ("dogs' toys, 'cause we'll go: 7:30 p.m.", "dogs ' toys , ' cause we 'll go : 7:30 p.m ."),
        ("mr. smith left. he cried!", "mr. smith left . he cried !"),
        ("u.s. army; e.g. tanks", "u.s. army ; e.g. tanks"),
        ("他去了Rome。", "他 去 了 Rome。"),
    ],
)
def test_word_tokens(text: str, expected: str) -> None:
    assert word_tokens(text) == expected.split()


@pytest.mark.parametrize("text", [pair for row in PINNED for pair in row[:2]] + ["i'm sure, we'd've gone -- maybe?"])
def test_word_tokens_equal_the_reference(text: str) -> None:
    reference = pytest.importorskip("nltk.tokenize").NLTKWordTokenizer()
    assert word_tokens(text.lower()) == reference.tokenize(text.lower())


def test_locomo_categories() -> None:
    f1 = SCORERS["f1_locomo"]
    gold = ["Likely yes; she enjoys classical music"]
    assert f1("Yes", gold, "3") == pytest.approx(2 / 3)
    assert f1("Yes", gold, "2") == pytest.approx(0.2857, abs=1e-4)
    assert SCORERS["f1_mem0"]("Yes", gold, "3") == 0
    for text in ("Not mentioned in the conversation", "No information available.", "not mentioned, but probably blue"):
        assert f1(text, [], "5") == 1
    for text in ("The conversation does not mention it", "I don't know", ""):
        assert f1(text, [], "5") == 0


def test_containment() -> None:
    sub_squad, sub_raw = SCORERS["sub_squad"], SCORERS["sub_raw"]
    cases = [("The answer is U.S.A.", "USA", 1, 0), ("Charlottes web", "Charlotte's Web", 1, 0)]
    cases += [("It was the 1990s", "1990", 1, 1), ("anything", "the", 1, 0)]
    for output, gold, squad, raw in cases:
        assert (sub_squad(output, [gold], ""), sub_raw(output, [gold], "")) == (squad, raw), output
    assert sub_raw("rome", ["paris", "rome"], "") == 0  # only the first answer


def test_list_hit() -> None:
    hit, compat = SCORERS["list_hit"], SCORERS["list_hit_compat"]
    both = "She visited Paris and Rome"
    assert compat(both, ["Paris; Rome"], "") == 0
    assert hit(both, ["Paris; Rome"], "") == 1
    assert compat("x paris", ["Paris; Rome;"], "") == pytest.approx(2 / 3)
    assert hit("x paris", ["Paris; Rome;"], "") == 0.5
    assert compat("She visited Paris", ["Paris"], "") == 1
    assert hit("anything", [" ; "], "") == 0


def test_keyword_hit() -> None:
    hit = SCORERS["keyword_hit"]
    ball = "Elizabeth met Darcy at the ball"
    assert hit(ball, ["Elizabeth Bennet", "Darcy", "ball", "Hertfordshire"], "") == 0.5
    assert hit(ball, ["Darcy, ball, letter"], "") == pytest.approx(2 / 3)
    assert hit("the smallest ballroom", ["ball, all, x"], "") == pytest.approx(2 / 3)
    with pytest.raises(MnemonError, match="no keyword"):
        hit("anything", [""], "")


def test_keyword_hit_compat() -> None:
    """A final comma leaves an empty keyword, which the original finds in every text."""
    hit, compat = SCORERS["keyword_hit"], SCORERS["keyword_hit_compat"]
    assert (compat("Tom ran", ["Tom,Becky,"], ""), hit("Tom ran", ["Tom,Becky,"], "")) == (pytest.approx(2 / 3), 0.5)
    assert compat("anything", [""], "") == 1
    assert compat("anything", [], "") == 0


def test_flaws_of_the_papers_metrics_are_kept_as_they_are() -> None:
    assert SCORERS["sub_raw"]("party", ["art"], "") == 1
    assert SCORERS["list_hit_compat"]("blue car in Paris", ["Blue Car; Paris"], "") == 0.5
    assert SCORERS["list_hit"]("blue car in Paris", ["Blue Car; Paris"], "") == 1
    boxed = SCORERS["boxed"]
    assert [boxed(text, ["3"], "") for text in (r"\boxed{3}", "3", "The label is 3", r"\boxed{2} \boxed{3}")] == [
        1,
        1,
        0,
        0,
    ]
    assert [boxed(text, ["3"], "") for text in (r'\boxed{"3"}', r"\boxed{03}")] == [1, 0]


def test_rank_recall_reads_a_numbered_list() -> None:
    listed = "Sure:\n1. Heat (1995)\n2. Jaws\n3. Up\n4. alien\n5. Her\n6. Big"
    assert [SCORERS[f"rank_recall@{k}"](listed, ["Heat", "Alien"], "") for k in (1, 5, 10)] == [0.5, 1, 1]
    assert SCORERS["rank_recall@5"]("", ["Heat"], "") == 0
    assert SCORERS["rank_recall@5"](listed, [], "") == 0


def test_rouge_lsum_takes_the_union_over_lines() -> None:
    """Lin's example: w1 w2 w3 w4 w5 against (w1 w2 w6 w7 w8; w1 w3 w8 w9 w5): the union is w1 w2 w3 w5, recall 4/5.

    Precision 4/10, so F1 = 8/15. On one line it is ROUGE-L.
    """
    lsum = SCORERS["rouge_lsum"]
    assert lsum("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", ["w1 w2 w3 w4 w5"], "") == pytest.approx(8 / 15)
    for prediction, gold in (
        ("police kill the gunman", "police killed the gunman"),
        ("gunman the killed police", "a b"),
    ):
        assert lsum(prediction, [gold], "") == SCORERS["rouge_l"](prediction, [gold], "")
    assert lsum("b a", ["a\nb"], "") == 1  # order matters within a line only
    assert lsum("a", ["a\na"], "") == pytest.approx(2 / 3)  # a word counts as often as both have it
    assert lsum("", ["a"], "") == 0


def test_event_recall() -> None:
    recall = SCORERS["event_recall"]
    assert recall("Next: Bob leaves the house.", ["Bob leaves the house."], "") == 1
    assert recall("Bob leaves", ["Bob leaves the house."], "") == 0
    assert recall("a", ["a", "b"], "") == 0
    assert recall("a", [], "") == 0


LABELS = [
    (r"\boxed{3}", "3", 1, 0, 1),
    ("3", "3", 1, 1, 1),
    ('"3"', "3", 1, 1, 1),
    (r"$\boxed{3}$", "3", 1, 0, 1),
    (r"\boxed{ 3 }", "3", 1, 0, 1),
    ("3.", "3", 0, 1, 1),
    ("label: 3", "3", 0, 0, 1),
    ("The label is 3", "3", 0, 0, 0),
    (r"\boxed{label 3}", "3", 0, 0, 1),
    (r"\boxed{03}", "3", 0, 0, 0),
    (r"\boxed{3} or \boxed{4}", "4", 0, 0, 0),
    (r"\boxed{\text{3}}", "3", 0, 0, 0),
]


@pytest.mark.parametrize(("output", "gold", "boxed", "em", "lenient"), LABELS)
def test_labels(output: str, gold: str, boxed: int, em: int, lenient: int) -> None:
    found = tuple(SCORERS[name](output, [gold], "") for name in ("boxed", "em_squad", "label"))
    assert found == (boxed, em, lenient)


def test_label_names() -> None:
    assert SCORERS["label"]("Label: card_arrival.", ["card_arrival"], "") == 1
    assert SCORERS["label"]("", [""], "") == 0


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("May 7, 2023", "7 May 2023", 1),
        ("7th of May, 2023", "May 7, 2023", 1),
        ("2023-05-07", "7 May 2023", 1),
        ("Sept 3rd 2022", "3 September, 2022", 1),
        ("in June, 2022", "In June 2022", 1),
        ("The week before May 7, 2023.", "the week before 7 May 2023", 1),
        ("the 3rd of July", "July 3", 1),
        ("The dog", "dog", 1),
        ("8 May 2023", "7 May 2023", 0),
        ("May 2023", "7 May 2023", 0),
        ("7 May", "7 May 2023", 0),
        ("7 May 2022", "7 May 2023", 0),
        ("2023", "7 May 2023", 0),
        ("On 7 May 2023", "7 May 2023", 0),
        ("7 June 2023", "July 6 2023", 0),
        ("17 May 2023", "7 May 2023", 0),
        ("32 May 2023", "2 May 2023", 0),
        ("", "the", 0),
        ("", "", 0),
    ],
)
def test_em_date(prediction: str, gold: str, expected: int) -> None:
    assert SCORERS["em_date"](prediction, [gold], "") == expected
    assert SCORERS["em_date"](gold, [prediction], "") == expected


def test_graded() -> None:
    assert graded("May 7, 2023", ["7 May 2023"], "1") == 1
    assert graded("The dog", ["dog"], "4") == 1
    assert graded("swimming and pottery", [GOLD_LIST], "1") == pytest.approx(1 / 3)
    assert graded("", [GOLD_LIST], "1") == 0
    assert graded("not mentioned", [], "5") == 1
    assert graded("On 7 May 2023", ["7 May 2023"], "2") == pytest.approx(6 / 7)


def test_chinese_counts_by_character() -> None:
    assert SCORERS["f1_mem0"]("北京大学", ["北京"], "") == pytest.approx(2 / 3)
    assert SCORERS["f1_locomo"]("她去了北京。", ["北京"], "4") == pytest.approx(4 / 7)
    assert SCORERS["em_squad"]("北京。", ["北京"], "") == 1
    assert SCORERS["bleu1_mem0"]("北京大学", ["北京"], "") == 0.5
    assert SCORERS["rouge_l"]("北京", ["北京"], "") == 1


def test_unknown_scorer_names_the_nearest() -> None:
    with pytest.raises(MnemonError, match="did you mean f1_mem0"):
        scorer("f1_mem")
    assert scorer("em") is SCORERS["em_squad"]


texts = st.one_of(
    st.text(max_size=30), st.lists(st.sampled_from(["a", "7", "May", "2023,", "dog;", "狗"])).map(" ".join)
)


@given(
    st.sampled_from(sorted(set(SCORERS) - {"keyword_hit"})),
    texts,
    st.lists(texts, max_size=3),
    st.sampled_from("12345"),
)
def test_scores_are_between_0_and_1(name: str, prediction: str, answers: list[str], category: str) -> None:
    score = SCORERS[name](prediction, answers, category)
    assert isinstance(score, float)
    assert 0 <= score <= 1


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_more_answers_never_lower_a_score(prediction: str, answers: list[str]) -> None:
    for name in ("em_squad", "em_date", "f1_mem0", "f1_squad", "f1_hotpot", "f1_locomo", "bleu1_mem0", "rouge_l"):
        assert SCORERS[name](prediction, answers, "1") >= SCORERS[name](prediction, answers[:1], "1")
