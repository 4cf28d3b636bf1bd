"""Addresses that are read out: URLs, e-mail, telephone numbers, @names and #tags."""

import re

from tacoskip.text.numbers import cardinal, digit_names
from tacoskip.text.tables import table

# Each starts where a run of its own characters starts, so that no run is scanned twice.
_URL = re.compile(r"(?<![\w@./-])(?:(?:https?|ftp)://|(?=www\.))([^\s<>\"]{1,2000})", re.IGNORECASE)
_DOMAIN = re.compile(
    r"(?<![\w@./-])((?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,5}"
    r"(?:com|org|net|edu|gov|io|ai|dev|info|co\.uk|ac\.uk|org\.uk))(?![\w-]|\.[a-z])(/[^\s<>\"]{0,2000})?"
)
_EMAIL = re.compile(
    r"(?<![\w.+%-])([A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24})(?!\w)"
)
_TAG = re.compile(r"(?<!\w)#(?=[A-Za-z])")
_HANDLE = re.compile(r"(?<!\S)@(?=\w)")
_MARKS = table("address_signs")
_SPELLED = frozenset(("www", "http", "https", "html", "php", "pdf", "url", "faq", "uk", "io", "ai"))

# (555) 123-4567, 1-800-555-1234, +1 (555)-123-4567 x12
_PHONE = re.compile(
    r"(?<![\w.+-])(?:(\+[0-9]{1,3})[ .-]?|(1)[ .-])?(?:\(([0-9]{2,5})\)[ .-]?|([0-9]{3})[ .-])"
    r"([0-9]{3,4})[ .-]([0-9]{4})(?:-([0-9]{1,4})|,? ?(?:x|ext\.?) ?([0-9]{1,6}))?(?![\w-]|\.[0-9])"
)
_PHONE_WORD = re.compile(r"(?<![\w.-])1-([89]00)-(?=[A-Z][A-Z0-9-]{2,14}(?!\w))")
_SHORT_PHONE = re.compile(r"(?<![\w.,-])([0-9]{3})-([0-9]{4})(?![\w-]|[.,][0-9])")
_ABROAD = re.compile(r"(?<![\w.+-])\+([0-9]{1,3}(?:[ -][0-9]{1,5}){2,5})(?![\w-]|[.,][0-9])")


def read_addresses(text: str) -> str:
    """URLs, e-mail and telephone numbers in words, each group of a telephone number apart."""
    if "@" in text or "." in text or "://" in text:
        text = _EMAIL.sub(lambda m: _read(m[1]), text)
        text = _URL.sub(lambda m: _url_words(m[1]), text)
        text = _DOMAIN.sub(lambda m: _url_words(m[1] + (m[2] or "")), text)
    text = _TAG.sub("hashtag ", text)
    text = _HANDLE.sub("at ", text)
    text = _PHONE.sub(_phone, text)
    text = _PHONE_WORD.sub(lambda m: f"one, {cardinal(int(m[1]))}, ", text)
    text = _ABROAD.sub(lambda m: "plus " + _groups(re.split("[ -]", m[1])), text)
    return _SHORT_PHONE.sub(lambda m: _groups([m[1], m[2]]), text)


def _url_words(address: str) -> str:
    # The stop or comma behind an address is the sentence's, not the address'.
    bare = address.rstrip(".,;:!?)'")
    return _read(bare.rstrip("/")) + address[len(bare) :]


def _read(address: str) -> str:
    words = []
    for part in re.findall(r"[A-Za-z]+|[0-9]+|.", address):
        if part in _MARKS:
            words.append(_MARKS[part])
        elif part.isdigit() and part.isascii() and len(part) > 2:
            words.append(digit_names(part))
        elif part.lower() in _SPELLED:
            words.append(" ".join(part.upper()))
        else:
            words.append(part)
    return " ".join(words)


def _groups(groups: list[str]) -> str:
    return ", ".join(digit_names(group) for group in groups)


def _phone(match: re.Match[str]) -> str:
    country, trunk, *groups, extension = match.groups()
    words = _groups([group for group in (trunk, *groups) if group])
    words += f", extension {digit_names(extension)}" if extension else ""
    return f"plus {digit_names(country[1:])}, {words}" if country else words
