"""Each rule by which answers are equal, with answers that it makes equal and answers that it keeps apart."""

import pytest

from cgd_ray.grading.equivalence import judge
from cgd_ray.grading.equivalence.algebra import equal_by_algebra

# The rule; answers that are equal; answers that are not.
AT_ONCE: list[tuple[str, list[tuple[str, str]], list[tuple[str, str]]]] = [
    (
        "Unicode is spelled out",
        [
            ("−7", "-7"),
            ("－７", "-7"),
            ("３，４", "3,4"),
            ("√5", r"\sqrt{5}"),
            ("x²", "x^2"),
            ("¾", "0.75"),
            ("7×10⁻³", "0.007"),
            ("ℝ", r"\mathbb{R}"),
        ],
        [("－７", "7"), ("x²", "x2"), ("1¾", "1/4")],
    ),
    (
        "LaTeX has one spelling",
        [(r"\tfrac34", "3/4"), (r"{3\over 4}", r"\dfrac{3}{4}"), (r"\left( 1,\, 2 \right)", "(1,2)"), (r"\mathbf{8}", "8"), ("{{8}}", "8")],
        [(r"\frac34", r"\frac43")],
    ),
    (
        "words around an answer fall away",
        [
            ("9", "9."),
            ("9", "Answer: 9"),
            ("9", "The final answer is $9$."),
            ("9", "#### 9"),
            (r"\text{The answer is } 9", "9"),
            ("9", "答案是9"),
        ],
        [("8", "The answer is 9"), ("no solution", "The solution is 9")],
    ),
    (
        "thousands are set apart",
        [("4,200", "4200"), (r"4{,}200", "4200"), (r"4,\!200{,}000", "4200000"), (r"4\,200", "4200"), ("4,200, 3,100", "3100, 4200")],
        [("4,20", "420"), ("4,2", "4.2"), ("4.200", "4200"), ("4,201", "4,200")],
    ),
    (
        "numbers are exact, a decimal also the rounding of what has no end",
        [
            ("0.250", "1/4"),
            ("007", "7"),
            ("0.142857", "1/7"),
            ("0.285714285714", "2/7"),
            ("0.30000000000000004", "0.3"),
            (r"0.1\overline{6}", "1/6"),
        ],
        [
            ("0.14286", "1/7"),
            ("99999999999999999", "100000000000000000"),
            ("1000000.5", "1000000.6"),
            ("2.50001", "2.5"),
            ("0.142858", "1/7"),
        ],
    ),
    (
        "tiny numbers are compared relatively",
        [("0.00000040", "4e-7")],
        [("0.0000004", "0.0000005"), ("4e-9", "0"), (r"7\times 10^{-30}", r"8\times 10^{-30}"), ("(0.0000004, 1)", "(0.0000005, 1)")],
    ),
    (
        "e-notation is a number",
        [("4e6", r"4 \times 10^6"), ("2.5E-3", "0.0025"), ("7.0 x 10^4", "70000"), ("7*10^{4}", "7e+04"), ("10^{-2}", "0.01")],
        [("4e6", "4e7"), ("4e", "4")],
    ),
    (
        "mixed numbers are sums",
        [("3 1/4", "13/4"), (r"3\frac{1}{4}", "3.25"), (r"-3~\frac14", "-3.25"), ("3½ hours", "3.5")],
        [("3 1/4", "3/4"), ("3 1/4", "31/4"), ("3 1/4", "3")],
    ),
    (
        "percent is the number or its hundredth",
        [(r"40\%", "40"), ("40%", "0.4"), (r"40 \text{ percent}", r"\frac25"), ("0.4", r"40\%")],
        [("0.4", "40"), ("4000", r"40\%"), (r"4\%", r"40\%")],
    ),
    (
        "a unit may be left out but not be another",
        [
            ("9 kg", "9"),
            ("9kg", "9"),
            (r"9\,\mathrm{m}/\mathrm{s}", "9 meters per second"),
            ("30 mph", "30 miles per hour"),
            (r"9 \text{ cm}^2", "9 square centimeters"),
            ("9 ㎡", "9"),
            (r"70^\circ", "70 degrees"),
            ("70°C", "70"),
            (r"\frac{70}{3}\text{ feet}", "70/3"),
            (r"2\pi \text{ cm}", r"2\pi"),
        ],
        [("9 kg", "9 g"), ("9 cm", "8"), (r"9\text{ cm}^2", r"9\text{ cm}^3"), ("9x", "9"), ("9m", "9"), ("9t", "9"), ("3 ft 2 in", "3")],
    ),
    (
        "things that are counted are no part of the number",
        [
            ("12 marbles", "12"),
            (r"12\text{ marbles}", "12 red marbles"),
            (r"\text{12 marbles}", "12"),
            ("5th", "5"),
            ("3 million", "3000000"),
        ],
        [("12 marbles", "12 spoons"), ("3 million", "3"), ("3 or more", "3"), ("2 thirds", "2"), ("7 remainder 1", "7"), ("2 dozen", "2")],
    ),
    (
        "money is a unit",
        [
            (r"\$7", "7"),
            ("$7", "7 dollars"),
            ("€7.00", "7"),
            (r"\text{£}7", "7"),
            ("7 euros", "€7"),
            ("¥70", "70元"),
            ("Rs. 70", "70"),
            (r"-\$7", "-7"),
        ],
        [(r"\$7", r"\$8"), ("€7", "$7"), (r"\$7 million", "7")],
    ),
    (
        "what Chinese counts with is a unit",
        [("7个", "7"), ("7", "7元"), (r"7\text{ 天}", "7"), ("7立方米", r"7\text{ m}^3"), ("3万", "30000")],
        [("7个", "8个"), ("3万", "3"), ("7以上", "7")],
    ),
    (
        "letters do not commute",
        [
            ("PQR", "PQR"),
            (r"\text{Rome}", "rome"),
            ("green", r"\textbf{Green}"),
            ("No Solution", "no solution"),
            ("N_2O", "N_{2}O"),
            ("星期五", r"\text{星期五}"),
        ],
        [
            ("QPR", "PQR"),
            ("ab", "ba"),
            ("SO", "OS"),
            ("LIV", "VIL"),
            ("not even", "even"),
            ("ON_2", "N_2O"),
            ("a", "A"),
            ("星期五", "星期六"),
        ],
    ),
    (
        "an option's letter, else what it says",
        [("(C)", "C"), (r"\text{C) } 12", "C"), ("C. 12", "12"), ("Option C", r"\textbf{(C)}"), ("A, C", "C, A")],
        [("C", "D"), ("C. 12", "D"), ("A, C", "C"), ("C", "CD")],
    ),
    (
        "ranges and scores are no differences",
        [("3-7", "3–7"), ("3 to 7", "3-7"), ("3-7 cm", "3-7"), (r"\$3-\$7", "3-7"), ("2-1-0", "2-1-0")],
        [("13-17", "3-7"), ("7-3", "4"), ("3-7", "7-3"), ("2-1-0", "3-2-0")],
    ),
    (
        "digits keep their base",
        [("120_3", "120_{3}"), (r"120_{\text{three}}", "120_3"), ("3F_{16}", "3F_{16}")],
        [("120_3", "120_4"), ("120_3", "15"), ("120", "120_3")],
    ),
    (
        "times of day keep their half",
        [("9:05 a.m.", "9:05 AM"), (r"9:05\text{ p.m.}", "21:05"), ("9 pm", "9:00 p.m."), ("9:05", "9:05 am")],
        [("9:05 a.m.", "9:05 p.m."), ("9:05", "9:05 p.m."), ("1:10", "2:20"), ("9:05", "9:50")],
    ),
    (
        "days are the same day",
        [("June 3", "3 June"), ("Jun 3rd, 1999", "June 3, 1999"), ("1999-06-03", "1999年6月3日"), ("3/6/1999", "03/06/1999")],
        [
            ("June 3", "June 4"),
            ("June 3, 1999", "June 3, 2000"),
            ("1999-06-03", "1998-05-03"),
            ("3/6/1999", "4/8/1999"),
            ("June 3", "June 3, 1999"),
        ],
    ),
    ("ratios are in proportion", [("4:6", "2:3"), ("2:3", r"\frac23"), ("2:4:6", "1:2:3")], [("2:3", "3:2"), ("1:2:3", "1:2:4")]),
    (
        "lists and sets in any order, tuples in theirs",
        [
            ("4, 9", "9,4"),
            (r"\{4,9\}", "9, 4"),
            ("4 and 9", "4,9"),
            ("(4,9)", "4,9"),
            (r"\pm 4", "-4, 4"),
            (r"\langle 4,9\rangle", "(4,9)"),
            ("(1,2),(3,4)", "(3,4),(1,2)"),
        ],
        [
            ("(4,9)", "(9,4)"),
            ("4,9", "4"),
            ("4,9,9", "4,9"),
            (r"\{4,9\}", "(4,9)"),
            ("[4,9]", "(4,9)"),
            ("4", r"\pm 4"),
            ("0", r"\emptyset"),
        ],
    ),
    (
        "inequalities are intervals",
        [
            ("2<x<5", "(2,5)"),
            (r"[2,\infty)", r"x \ge 2"),
            ("x>5 or x<2", r"x<2\text{ or }x>5"),
            (r"x\in[2,5)", r"2\le x<5"),
            ("C>B>A", "A<B<C"),
        ],
        [("2<x<5", "(2,6)"), (r"x\le 2", "x<2"), ("x<2", "y<2"), ("[2,5)", "(2,5]")],
    ),
    (
        "a name may be left out but not be another",
        [
            ("x=6", "6"),
            ("6", r"f(2) = 6"),
            (r"x \approx 6.5", "6.5"),
            ("2 \\cdot 3 = 6", "6"),
            ("x=1, y=2", r"\begin{aligned}y&=2\\x&=1\end{aligned}"),
            ("x=1,y=2", "(1,2)"),
        ],
        [("x=6", "y=6"), ("x+1=6", "6"), ("x=2,y=1", "x=1,y=2"), ("x=2,y=1", "1,2"), ("n=1,2", "n=2,3")],
    ),
    (
        "matrices cell by cell",
        [(r"\begin{pmatrix}1&0.5\\0&1\end{pmatrix}", r"\begin{bmatrix} 1 & \frac12 \\ 0 & 1 \end{bmatrix}")],
        [
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
        ],
    ),
]

BY_ALGEBRA: list[tuple[str, str, bool]] = [
    (r"\sqrt{12}", r"2\sqrt{3}", True),
    (r"\sqrt{12}", r"3\sqrt{2}", False),
    (r"\frac{1}{80!}", r"\frac{1}{81!}", False),
    (r"e^{-40}", r"e^{-41}", False),
    (r"2^{500}", r"2^{500}+1", False),
    (r"10^{-30}x", r"2\cdot 10^{-30}x", False),
    ("3.14159265", r"\pi", True),
    ("3.14159", r"\pi", False),
    ("(x-1)(x+1)", "x^2-1", True),
    ("2ab", "2ba", True),
    ("2ab", "2ac", False),
    ("(1+i)^2", "2i", True),
    ("3-i", "3+i", False),
    ("y=3x-2", "6x-2y-4=0", True),
    ("y=3x-2", "6x-2y-5=0", False),
    ("y=3x-2", "3x-2", True),
    (r"3\pm\sqrt{2}", r"3-\sqrt{2}, 3+\sqrt{2}", True),
    (r"x>5 \text{ or } x<2", r"(-\infty,2)\cup(5,\infty)", True),
    (r"x \ne 2", r"\mathbb{R}\setminus\{2\}", True),
    (r"(0,1)\cup(2,3)", r"(0,1)\cup(2,4)", False),
    ("A<B<C", "A<C<B", False),
    ("2 1/2", r"\sqrt{\frac{25}{4}}", True),
]


@pytest.mark.parametrize(
    ("answer", "reference"), [pytest.param(*pair, id=f"{rule}: {pair[0]} | {pair[1]}") for rule, equal, _ in AT_ONCE for pair in equal]
)
def test_equal_answers_are_right_without_algebra(answer: str, reference: str) -> None:
    assert judge(answer, reference).right is True
    assert judge(reference, answer).right is True


@pytest.mark.parametrize(
    ("answer", "reference"), [pytest.param(*pair, id=f"{rule}: {pair[0]} | {pair[1]}") for rule, _, other in AT_ONCE for pair in other]
)
def test_other_answers_are_wrong(answer: str, reference: str) -> None:
    assert judge(answer, reference, algebra=equal_by_algebra).right is False
    assert judge(reference, answer, algebra=equal_by_algebra).right is False


@pytest.mark.parametrize(("answer", "reference", "right"), BY_ALGEBRA)
def test_algebra_decides_what_no_rule_does(answer: str, reference: str, right: bool) -> None:
    assert judge(answer, reference, algebra=equal_by_algebra).right is right


def test_a_judgement_names_its_rule() -> None:
    assert judge("x = 1/2", "0.5").rule == "a name may be left out"
    assert judge("CAT", "ACT").rule == "the same words"
    assert judge("3:00", "blue").rule == "different kinds"
    undecided = judge(r"\sqrt{4}", "2")
    assert (undecided.right, undecided.rule) == (None, "algebra")


@pytest.mark.parametrize(
    "text", ["(" * 300, "1," * 150, r"\frac{" * 50, "f(x)=" * 60, "½" * 300, "a_" * 150, r"\text{a} " * 37, "B. " * 100, "-" * 300]
)
def test_strange_answers_are_judged_too(text: str) -> None:
    assert judge(text, "5").right is not True
    assert judge("5", text).right is not True
