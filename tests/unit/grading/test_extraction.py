"""A final answer is found in its box, else in its phrase; each way is named, so that strict and lenient accuracy can be told apart."""

import pytest

from cgd_ray.grading.extraction import Found, find_answer, last_number, phrased_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 4.", "4"),
        ("So the final answer is: $\\frac{1}{2}$.", r"$\frac{1}{2}$"),
        ("Therefore, the answer is 3.14. Good.", "3.14"),
        ("**Answer:** 12", "12"),
        ("**Final Answer**: **12**", "12"),
        ("Answer = -7", "-7"),
        ("The answer to the problem is 8 apples.", "8 apples"),
        ("The answers are 3 and 4.", "3 and 4"),
        ("The final result should be 9", "9"),
        ("First 2 + 2.\n#### 4", "4"),
        ("The answer is:\n\n$$\n42\n$$", "42"),
        ("The answer is:\n\\[ x = 5 \\]", "x = 5"),
        ("The answer is $x = 0. 5$. That is all.", "$x = 0. 5$"),
        ("The answer is \\(2. 5\\). That is all.", "\\(2. 5\\)"),
        ("The answer is 4, because 2 + 2 is that.", "4"),
        ("The answer is $5. It is not more.", "$5"),
        ("The answer is \\$5.50. It is not more.", "\\$5.50"),
        ("The correct option is (B).", "(B)"),
        ("答案是9。", "9"),
        ("La réponse finale est 12.", "12"),
        ("Die Antwort lautet also: 12.", "12"),
        ("**Antwort:** 12", "12"),
        ("Het antwoord is 12.", "12"),
        ("La respuesta correcta es 12.", "12"),
        ("A resposta é 12.", "12"),
        ("La risposta è quindi 12.", "12"),
        ("Ответ: 12.", "12"),
        ("Правильный ответ — 12", "12"),
        ("Wynik wynosi 12.", "12"),
        ("Cevap: 12", "12"),
        ("Đáp án là 12.", "12"),
        ("答案：１２。", "１２"),
        ("所以最终答案应该是：3.5。", "3.5"),
        ("したがって、答えは12です。", "12"),
        ("答え：３．５です", "３．５"),
        ("정답은 12입니다.", "12"),
        ("الجواب النهائي هو 12.", "12"),
        ("उत्तर: 12।", "12"),
        ("The answer is 3. Wait. The answer is 4.", "4"),
        ("The answer is 4. So the answer is not 5.", "4"),
    ],
)
def test_a_phrase_names_an_answer_to_the_end_of_its_sentence(text: str, answer: str) -> None:
    assert phrased_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is 4.",
        "What is the answer?",
        "The answer is not 4.",
        "Die Antwort ist nicht 4.",
        "La réponse n'est pas 4.",
        "答案不是4。",
        "答えは4ではありません。",
        "I answered 4.",
        "The answer is",
        "The answer is " + "word " * 200,
        r"The answer is \boxed{4",
        r"The answer is \boxed{}",
    ],
)
def test_what_names_no_answer_is_no_phrase(text: str) -> None:
    assert phrased_answer(text) is None


def test_the_first_way_that_finds_something_counts_and_is_named() -> None:
    text = "The answer is 3, or 5 by another way."
    assert find_answer(text + r" It is \boxed{4}.", ("box", "phrase")) == Found(answer="4", by="box")
    assert find_answer(text, ("box", "phrase")) == Found(answer="3, or 5 by another way", by="phrase")
    assert find_answer("It is 3, no: 5.", ("box", "phrase", "last number")) == Found(answer="5", by="last number")
    assert find_answer(text, ("box",)) is None


@pytest.mark.parametrize("text", [r"So it is \boxed{4", r"Of 4 there is \boxed{}."])
def test_a_number_beside_an_empty_or_open_box_is_no_answer(text: str) -> None:
    assert find_answer(text, ("box", "phrase", "last number")) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1 and 2", "2"),
        ("It costs $1,234.50.", "1,234.50"),
        ("at -3, then", "-3"),
        ("about 1/2 of it", "1/2"),
        ("共１，２３４．５元", "１，２３４．５"),
        ("none", None),
    ],
)
def test_the_last_number_is_taken_whole(text: str, number: str | None) -> None:
    assert last_number(text) == number
