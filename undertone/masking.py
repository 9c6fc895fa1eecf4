"""Personal data in texts replaced by fixed words: ``[email]``, ``[phone]``, ``[card]``.

Where a message enters (`serving.wire`), once: what the model reads is what is stored. Phone numbers are told by
libphonenumber (https://github.com/google/libphonenumber), cards by their issuer's digits and the Luhn check
(ISO/IEC 7812-1), e-mail addresses by their form.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, get_args

from undertone.settings import Settings
from undertone.text import repair

Kind = Literal["email", "phone", "card"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: Characters behind a limit that are looked at too: a number that lies across the cut is replaced whole.
BEYOND = 400

#: So many digits near each other, as libphonenumber takes them (four marks between two at most); without such a place
#: its search, which costs half a millisecond, is not begun.
_NEAR = re.compile(r"\d(?:\W{0,4}\d){6}")
#: Digits of a card (ISO/IEC 7812-1 allows fewer; no issuer below has them).
CARD_DIGITS = (13, 19)

_AT = re.compile("[@\uff20\ufe6b]")
#: What may stand in front of the sign (RFC 5322's atoms, any letter of Unicode).
_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~\-\uff0e]")
_QUOTES = "'`*_~|/=.-"
_DOMAIN = re.compile(r"(?:[\w](?:[\w-]{0,61}[\w])?[.\uff0e\u3002\uff61])+[^\W\d_][\w-]{0,61}[^\W_]")
_DIGIT = re.compile(r"\d")
#: What may stand between the digits of one number: blanks, dashes, dots, marks that nobody sees.
_BETWEEN = re.compile("[ \\t\u00a0\u2000-\u200d\u202f\u2060\u3000\ufeff\u00ad.\u00b7\\-\u2010-\u2015\u2212\uff0d]{0,3}")
_GROUP = re.compile(r"\d+")
#: A number in national form after one of these words is theirs, not a phone's; a few words may stand in between.
_NO_PHONE = re.compile(
    "orders?|invoice|ticket|case|track(?:ing)?|parcel|package|shipment|ref(?:erence)?|reservation|booking|confirmation"
    "|account|acct|customer|id|serial|imei|sku|item|product|article|isbn|record|locator|claim|po|#"
)
_FILLERS = re.compile("no|nr|num|numbers?|code|is|was|the|my|of|for|its?|s|and")
#: Words, and where a clause ends; the point of "no." ends none.
_WORD = re.compile(r"[^\W_]+|[#,;!?\n]|(?<!no)(?<!nr)(?<!num)\.")
_CURRENCY = re.compile(r"\s?(?:[$\u20ac\u00a3\u00a5]|usd|eur|gbp|dollars|euros|pounds)\b", re.IGNORECASE)

#: Issuers: a range of first digits, and the lengths of their cards
#: (https://en.wikipedia.org/wiki/Payment_card_number).
_ISSUERS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (4, 4, (13, 16, 19)),  # Visa
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),
    (300, 305, (14, 15, 16, 17, 18, 19)),  # Diners Club
    (36, 36, (14, 15, 16, 17, 18, 19)),
    (38, 39, (14, 15, 16, 17, 18, 19)),
    (6011, 6011, (16, 17, 18, 19)),  # Discover
    (644, 649, (16, 17, 18, 19)),
    (65, 65, (16, 17, 18, 19)),
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (62, 62, (16, 17, 18, 19)),  # UnionPay
    (50, 50, (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (56, 58, (13, 14, 15, 16, 17, 18, 19)),
    (60, 61, (16, 17, 18, 19)),
    (63, 63, (13, 14, 15, 16, 17, 18, 19)),
    (66, 69, (13, 14, 15, 16, 17, 18, 19)),
)

Span = tuple[int, int, Kind]


class Masker:
    """Replaces what it is told to. Cheap where a text has neither a digit nor an at sign.

    Args:
        kinds: what is replaced; none: every text stays as it is.
        region: two letters of the country whose phone numbers need no country code; empty: only numbers with one
            (``+44 …``) are found.
    """

    def __init__(self, kinds: Sequence[Kind] = (), region: str = "") -> None:
        self.kinds = frozenset(kinds)
        self.region = region or None
        if "phone" in self.kinds:
            import phonenumbers  # noqa: F401  # half a second of metadata: at the start, not at the first message

    @classmethod
    def of(cls, settings: Settings) -> Masker:
        """What the settings ask for."""
        return cls(settings.mask_personal_data, settings.mask_region)

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def mask(self, text: str) -> str:
        """`text` with personal data replaced. Doing it twice changes nothing more; a text without any comes back."""
        while spans := self._spans(text):
            text = _replaced(text, spans)
        return text

    def read(self, text: str, limit: int) -> str:
        """What is read of a text as it arrived: repaired, masked, at most `limit` characters."""
        if not self.kinds:
            return repair(text[:limit])
        whole = repair(text[: limit + BEYOND])
        head = whole[:limit]
        if len(whole) > len(head):  # what begins before the cut is replaced whole; what begins behind it is not read
            across = [end for start, end, _ in self._spans(whole) if start < len(head)]
            head = whole[: max([len(head), *across])]
        return self.mask(head)[:limit]

    def _spans(self, text: str) -> list[Span]:
        """What is to be replaced, in order, none over another."""
        found: list[Span] = []
        if "email" in self.kinds and _AT.search(text):
            found += ((*span, "email") for span in _addresses(text))
        if self.kinds & {"phone", "card"} and _DIGIT.search(text):
            digits = len(_DIGIT.findall(text))
            if "card" in self.kinds and digits >= CARD_DIGITS[0]:
                found += ((*span, "card") for span in _cards(text))
            if "phone" in self.kinds and digits >= 7:
                # cards first: half of one may look like a phone number
                rest = _blanked(text, found)
                found += ((*span, "phone") for span in _phones(rest, self.region))
        return _apart(found)


def _replaced(text: str, spans: Sequence[Span]) -> str:
    made, at = [], 0
    for start, end, kind in spans:
        made += [text[at:start], f"[{kind}]"]
        at = end
    return "".join([*made, text[at:]])


def _apart(spans: list[Span]) -> list[Span]:
    """Spans in order; of two that overlap, one over both, of the kind of the earlier."""
    made: list[Span] = []
    for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
        if made and start < made[-1][1]:
            made[-1] = (made[-1][0], max(end, made[-1][1]), made[-1][2])
        else:
            made.append((start, end, kind))
    return made


def _blanked(text: str, spans: Sequence[Span]) -> str:
    """`text` of the same length, with letters where something was found already."""
    for start, end, _ in spans:
        text = text[:start] + "x" * (end - start) + text[end:]
    return text


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    last = 0
    for sign in _AT.finditer(text):
        start = sign.start()
        while start > last and _LOCAL.match(text, start - 1):
            start -= 1
        while start < sign.start() and text[start] in _QUOTES:
            start += 1
        domain = _DOMAIN.match(text, sign.end())
        if domain and start < sign.start():
            last = domain.end()
            yield start, last
        elif domain and text[start - 1 : start] == '"':  # "Ann Lee"@example.com
            opening = text.rfind('"', max(last, start - 66), start - 1)
            if opening >= 0:
                last = domain.end()
                yield opening, last


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """Card numbers: whole groups of digits with little between them."""
    groups = [match.span() for match in _GROUP.finditer(text)]
    at = 0
    while at < len(groups):
        end = _card_from(text, groups, at)
        if end is None:
            at += 1
        else:
            yield groups[at][0], groups[end][1]
            at = end + 1


def _card_from(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """The last of the groups that make the longest card from the group `first` on; None: they make none."""
    digits, found = "", None
    for number in range(first, len(groups)):
        start, end = groups[number]
        if number > first and not _BETWEEN.fullmatch(text, groups[number - 1][1], start):
            break
        digits += _ascii(text[start:end])
        if len(digits) > CARD_DIGITS[1]:
            break
        if len(digits) >= CARD_DIGITS[0] and _is_card(digits):
            found = number
    return found


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in digits)


def _is_card(digits: str) -> bool:
    return _issued(digits) and _luhn(digits)


def _issued(digits: str) -> bool:
    return any(
        len(digits) in lengths and low <= int(digits[: len(str(low))]) <= high for low, high, lengths in _ISSUERS
    )


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _phones(text: str, region: str | None) -> Iterator[tuple[int, int]]:
    from phonenumbers import Leniency, PhoneNumberMatcher

    if not _NEAR.search(text) or not (region or _has_plus(text)):
        return
    for match in PhoneNumberMatcher(text, region, Leniency.VALID, 2**31):
        raw = match.raw_string
        national = not _has_plus(raw) and "(" not in raw and "\uff08" not in raw
        if national and (_named(text[max(0, match.start - 60) : match.start]) or _CURRENCY.match(text, match.end)):
            continue
        yield match.start, match.end


def _named(before: str) -> bool:
    """Whether the words before a number say that it is an order's, a ticket's, …"""
    for word in reversed(_WORD.findall(before.casefold())[-4:]):
        if _NO_PHONE.fullmatch(word):
            return True
        if not _FILLERS.fullmatch(word):
            return False
    return False


def _has_plus(text: str) -> bool:
    return "+" in text or "\uff0b" in text


@lru_cache(maxsize=1)
def regions() -> frozenset[str]:
    """Countries that `Masker` knows."""
    import phonenumbers

    return frozenset(phonenumbers.SUPPORTED_REGIONS)
