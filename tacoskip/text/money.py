"""Sums of money: $13.87 is thirteen dollars, eighty-seven cents."""

import re

from tacoskip.text.numbers import INTEGER, cardinal, number
from tacoskip.text.tables import table

_CURRENCIES, _CODES = table("currencies"), table("currency_codes")
_COUNTRIES, _SCALES = table("dollars"), table("scales")
_SIGN = "[" + "".join(_CURRENCIES).replace("¢", "") + "]"
_AMOUNT = rf"({INTEGER})?(?:\.([0-9]{{1,18}})(?![0-9]))?"
_SCALE = (
    r"(?:[ -](hundred|thousand|million|billion|trillion)(?!\w)|"
    r"(?:(k|K|mn?|M|bn?|B|tn|T)| (k|mn|M|bn?|B|tn))(?![\w'-]))?"
)
_COUNTRY = r"(?:(?<!\w)(US|AU?|CA?|NZ|HK|S)(?=\$))?"

_CODE_BEFORE = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, _CODES))}) ?(?=[0-9])")
_CODE_BEHIND = re.compile(
    rf"(?<![\w.,])({INTEGER}(?:\.[0-9]{{1,18}})?) ({'|'.join(map(re.escape, _CODES))})(?!\w)"
)
_RANGE = re.compile(rf"({_SIGN})({INTEGER})-(?:\1)?(?={INTEGER}(?!\.[0-9]))")
_SUMS = re.compile(rf"({_SIGN}[0-9][0-9,.]{{0,20}}[A-Za-z]{{0,2}})-(?={_SIGN}[0-9])")
_BEFORE = re.compile(
    rf"((?:(?<![\w.,)])-)?){_COUNTRY}({_SIGN})(-?) ?(?=\.?[0-9]){_AMOUNT}{_SCALE}"
    r"(?: (?:dollars?|pounds?|euros?)\b)?"
)
_BEHIND = re.compile(rf"(?<![\w.,$£€])(?=\.?[0-9]){_AMOUNT} ?([€₽₹¢])(?!\w)")


def read_money(text: str) -> str:
    """Every sum written with a currency sign or code, in words."""
    if not any(sign in text for sign in (*_CURRENCIES, *_CODES)):
        return text
    text = _CODE_BEFORE.sub(lambda m: _CODES[m[1]], text)
    text = _CODE_BEHIND.sub(lambda m: _CODES[m[2]] + m[1], text)
    text = _RANGE.sub(r"\2 to \1", text)
    text = _SUMS.sub(r"\1 to ", text)
    text = _BEFORE.sub(_sum, text)
    return _BEHIND.sub(lambda m: _amount(m[3], m[1], m[2], None), text)


def _sum(match: re.Match[str]) -> str:
    minus, country, sign, inner_minus, whole, part, scale, *short = match.groups()
    scale = scale or _SCALES.get(short[0] or short[1] or "")
    words = _amount(sign, whole, part, scale)
    # A $20 bill, a £5 note: the sum is an adjective, which has no plural.
    noun = match.string[match.end() : match.end() + 12].lstrip(" -")
    one, several, _, _ = _CURRENCIES[sign]
    if re.match(r"(bill|note|coin|banknote)s?\b", noun) and words.endswith(several):
        words = words[: -len(several)] + one
    if country:
        words = words.replace(one, f"{_COUNTRIES[country]} {one}", 1)
    if minus or inner_minus:
        words = "minus " + words
    return words + (" " if match.string[match.end() : match.end() + 1].isalnum() else "")


def _amount(sign: str, whole: str | None, part: str | None, scale: str | None) -> str:
    one, several, hundredth, hundredths = _CURRENCIES[sign]
    part = (part or "").rstrip("0")
    if scale or len(part) > 2 or (part and not hundredth):
        written = (whole or "0") + (f".{part}" if part else "")
        return " ".join(filter(None, (number(written), scale, several)))
    value, small = int((whole or "0").replace(",", "")), int(part.ljust(2, "0"))
    words = f"{cardinal(value)} {one if value == 1 else several}"
    if not small:
        return words
    cents = f"{cardinal(small)} {hundredth if small == 1 else hundredths}"
    return f"{words}, {cents}" if value else cents
