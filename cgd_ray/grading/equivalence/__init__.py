"""Is an answer equal to the reference? `judge(answer, reference)` says so and by which rule.

An answer is respelled (spelling.py), read into the form that it is (reading.py, quantities.py, forms.py) and compared by the first rule
that fits both forms (rules.py, numbers.py); what takes algebra goes to math-verify (algebra.py, the one file that imports sympy).
"""

from cgd_ray.grading.equivalence.rules import Judgement, judge

__all__ = ["Judgement", "judge"]
