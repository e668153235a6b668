"""How a final answer is announced in words: "The answer is 4.", "Die Antwort lautet 4.", "答案是4。", "答えは4です。".

Why a file of its own: what grows is the list of languages, and none of it is logic. A row has the words for an answer, and what may stand
between them and the answer besides a colon or an equals sign; both are parts of a regular expression, matched in any case.
How to use: `ANNOUNCED.finditer(text)`; the answer begins where a match ends.
"""

import re

_ANNOUNCEMENTS = (
    # English
    (
        r"\banswers?(?:\s+(?:to|of|for)\s+[^.:\n]{1,80}?)?|\bfinal\s+(?:result|value)|\bcorrect\s+(?:option|choice)",
        r"(?:is|are|(?:would|should|must|will)\s+be|equals)\b\s*(?:therefore|thus|simply|then)?\s*:?",
    ),
    # Chinese, Japanese, Korean
    (r"答案|结果|結果|答(?=[:：])", r"(?:应该?|應該?)?(?:是|为|為|等于|等於)\s*[:：]?"),
    (r"答え|解答|正解", r"は\s*、?"),
    (r"(?:정답|(?<!\w)답)", r"은\s*"),
    # German, Dutch
    (r"\bantwort(?:en)?|\b(?:end)?ergebnis", r"(?:ist|sind|lautet|lauten|beträgt)\b\s*(?:also|daher|somit|damit)?\s*:?"),
    (r"\b(?:eind)?antwoord", r"(?:is|luidt)\b\s*(?:dus)?\s*:?"),
    # French, Spanish, Portuguese, Italian
    (r"\bréponse(?:\s+(?:finale|correcte))?|\brésultat(?:\s+final)?", r"est\b\s*(?:donc)?\s*:?"),
    (r"\brespuesta(?:\s+(?:final|correcta))?|\bresultado(?:\s+final)?", r"es\b\s*(?:entonces)?\s*:?"),
    (r"\bresposta(?:\s+(?:final|correta))?", r"é\b\s*(?:portanto)?\s*:?"),
    (r"\brisposta(?:\s+(?:finale|corretta))?|\brisultato(?:\s+finale)?", r"è\b\s*(?:quindi)?\s*:?"),
    # Russian, Polish
    (r"\bответ", r"(?:равен|равно|составляет)\b|это\b|[—–-]"),
    (r"\bodpowiedź|\bwynik", r"(?:to|brzmi|wynosi)\b"),
    # Vietnamese, Turkish, Arabic, Hindi
    (r"\bđáp\s+(?:án|số)|\bcâu\s+trả\s+lời", r"là\b"),
    (r"\bcevap|\byanıt", r"(?!)"),
    (r"(?:الجواب|الإجابة)(?:\s+(?:النهائي|النهائية|الصحيحة))?", r"(?:هو|هي)\b"),
    (r"उत्तर", r"है"),
)
_BETWEEN = r"\s*[*_]*\s*"  # bold in Markdown, closed before the colon

ANNOUNCED = re.compile(
    "|".join((r"^\s*####\s*", *(rf"(?:{words}){_BETWEEN}(?:{links}|[:=：])\s*" for words, links in _ANNOUNCEMENTS))),
    re.IGNORECASE | re.MULTILINE,
)
"""Ends where the answer begins; `####` is how GSM8K's solutions announce theirs."""
DENIED = re.compile(r"(?:not|nicht|kein|niet|pas|не)\b|[^\n]*?(?:では(?:ありません|ない)|아닙니다|아니다)", re.IGNORECASE)
"""What an answer that is denied begins with."""
SENTENCE_END = re.compile(
    r"[.!](?=\s|$|[*_]+(?:\s|$))|[。！।]|．(?!\d)|\n|,?\s+(?:because|since|which|where|so that)\b|(?:です|である|でした)(?=\s|[。．、]|$)|"
    r"(?:입니다|이다|예요|이에요)(?=\s|\.|$)"
)
"""What ends the sentence that names an answer."""
