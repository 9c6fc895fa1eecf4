"""What is masked, what stays, and that nothing of a number is left."""

import re
from datetime import UTC, datetime

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.wire import messages_of
from undertone.masking import KINDS, Masker, regions
from undertone.settings import Settings

ALL = Masker(KINDS, "US")

MASKED = [
    ("write to ann.lee+x@example.co.uk.", "write to [email]."),
    ("Ann Lee <ann@example.com>, please", "Ann Lee <[email]>, please"),
    ("mailto:ann@example.com?subject=parcel", "mailto:[email]?subject=parcel"),
    ('"Ann Lee"@example.com', "[email]"),
    ("jürgen@müller.de hat geschrieben", "[email] hat geschrieben"),
    ("ＡＮＮ＠example．com", "[email]"),
    ("a@b.org,c@d.org;e@f.org", "[email],[email];[email]"),
    ("call (415) 253-0000 or 415-253-0001 today", "call [phone] or [phone] today"),
    ("my cell is 4152530000", "my cell is [phone]"),
    ("+44 20 7946 0958 and +1 650 253 0000", "[phone] and [phone]"),
    ("tel: +49 (0)30 123456-78", "tel: [phone]"),
    ("６５０-２５３-００００", "[phone]"),
    ("6 5 0 2 5 3 0 0 0 0", "[phone]"),
    ("where is my parcel? 650 253 0000", "where is my parcel? [phone]"),
    ("I have no parcel. 650 253 0000", "I have no parcel. [phone]"),
    ("650\u200b253\u200b0000", "[phone]"),
    ("card 4111 1111 1111 1111 12/27 please", "card [card] 12/27 please"),
    ("4111-1111-1111-1111, 3782 822463 10005", "[card], [card]"),
    ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "[card]"),
    ("٤١١١١١١١١١١١١١١١", "[card]"),
    ("4111\u00a01111\u00a01111\u00a01111", "[card]"),
    ("order 12345 paid by 5555555555554444", "order 12345 paid by [card]"),
]

KEPT = [
    "order 4152530000 is late",
    "order number is 6502530000, where is it?",
    "order no. 415-253-0000",
    "ticket #6502530000",
    "tracking 9400 1000 0000 0000 0000 00",
    "tracking 1Z999AA10123456784",
    "my booking reference is 4152530000",
    "it costs 6502530000 dollars",
    "$1,234,567.89 and 12.345.678,90 EUR",
    "flight AA1234 on 2026-10-05 at 12:30, seat 12A",
    "from 10/12/2026 08:15 to 11/12/2026 09:45",
    "1234567812345678 is no card",
    "invoice 4111111111111112",
    "@AmericanAir, @united: thank you",
    "2 of 3 bags, 20 kg, room 415, 253 USD",
    "isbn 978-3-16-148410-0",
    "a@b, me @ home, 5@10",
    "192.168.100.200 does not answer",
]


@pytest.mark.parametrize(("text", "wanted"), MASKED)
def test_personal_data_is_replaced(text: str, wanted: str) -> None:
    assert ALL.mask(text) == wanted


@pytest.mark.parametrize("text", KEPT)
def test_other_numbers_stay(text: str) -> None:
    assert ALL.mask(text) == text


def test_only_what_was_asked_for_is_replaced() -> None:
    text = "ann@example.com, 4111111111111111, +1 650 253 0000"
    assert Masker().mask(text) == text
    assert Masker(["email"]).mask(text) == "[email], 4111111111111111, +1 650 253 0000"
    assert Masker(["card"]).mask(text) == "ann@example.com, [card], +1 650 253 0000"
    assert Masker(["phone"]).mask(text) == "ann@example.com, 4111111111111111, [phone]"


def test_a_number_without_country_code_needs_a_region() -> None:
    assert Masker(["phone"]).mask("call 020 7946 0958") == "call 020 7946 0958"
    assert Masker(["phone"], "GB").mask("call 020 7946 0958") == "call [phone]"


def test_the_region_is_one_that_is_known() -> None:
    assert {"US", "GB", "DE"} <= regions()
    with pytest.raises(ValidationError):
        Settings(mask_region="us")


@given(st.text(st.sampled_from("0123456789 -.+()@ab,／٤４\u200b#x"), max_size=60))
@settings(max_examples=150)
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once = ALL.mask(text)
    assert ALL.mask(once) == once


@given(st.text(max_size=80), st.integers(1, 60))
def test_no_text_is_too_odd(text: str, limit: int) -> None:
    assert len(ALL.read(text, limit)) <= limit
    assert Masker().read(text, limit) == Masker().read(text, limit)[:limit]


SOME = ["the", "driver", "is", "late", ",", "please", "call", ".", "my", "number", "(", "thanks", ")"]
WORDS = st.lists(st.sampled_from(SOME), max_size=8).map(" ".join)


@given(WORDS, WORDS, st.sampled_from(["4", "51", "37", "6011"]), st.text("0123456789", min_size=16, max_size=16),
       st.sampled_from(["", " ", "-", ".", "\u00a0"]), st.integers(2, 5))  # fmt: skip
def test_nothing_of_a_card_is_left(before: str, after: str, prefix: str, digits: str, mark: str, group: int) -> None:
    length = 15 if prefix == "37" else 16
    stem = (prefix + digits)[: length - 1]
    card = next(stem + str(check) for check in range(10) if luhn(stem + str(check)))
    written = mark.join(card[at : at + group] for at in range(0, length, group))
    assert re.findall(r"\d", ALL.mask(f"{before} {written} {after}")) == []


def luhn(digits: str) -> bool:
    """As ISO/IEC 7812-1 tells it, from the right."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(digits[::-1])]
    return sum(sum(map(int, str(value))) for value in doubled) % 10 == 0


FORMS = [phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164,
         phonenumbers.PhoneNumberFormat.NATIONAL]  # fmt: skip


@given(WORDS, WORDS, st.sampled_from(["US", "GB", "DE", "FR", "IN"]), st.sampled_from(FORMS))
def test_nothing_of_a_phone_number_is_left(before: str, after: str, region: str, form: int) -> None:
    number = phonenumbers.format_number(phonenumbers.example_number(region), form)
    assert re.findall(r"\d", Masker(["phone"], region).mask(f"{before} , {number} , {after}")) == []


@given(WORDS, st.from_regex(r"[a-z][a-z0-9._+-]{0,20}@[a-z0-9]{1,10}(\.[a-z]{2,6}){1,2}", fullmatch=True), WORDS)
def test_nothing_of_an_address_is_left(before: str, address: str, after: str) -> None:
    masked = Masker(["email"]).mask(f"{before} {address} {after}")
    assert "@" not in masked
    assert address.split("@")[1] not in masked


@given(st.text(max_size=60), st.text("abc +-.,@", max_size=30))
def test_texts_without_personal_data_come_back(text: str, words: str) -> None:
    plain = re.sub(r"[\d@\uff20\ufe6b]", "", text + words)
    assert ALL.mask(plain) == plain


def test_a_number_across_the_cut_goes_whole() -> None:
    text = "x" * 10 + " 4111 1111 1111 1111 and more"
    for limit in range(5, len(text)):
        read = ALL.read(text, limit)
        assert len(read) <= limit
        assert re.findall(r"\d", read) == []


@pytest.mark.parametrize("field", ["channel", "segment", "customer_id", "id"])
def test_what_identifies_a_message_is_not_text(field: str) -> None:
    (message,) = messages_of(
        {"text": "mail ann@example.com", field: "ann@example.com"},
        datetime(2026, 11, 24, tzinfo=UTC),
        max_messages=1,
        max_chars=100,
        mask=ALL,
    )
    assert message.text == "mail [email]"
    assert getattr(message, field) == "ann@example.com"
