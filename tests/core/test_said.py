"""Whether an answer says a value: by words, whatever the script."""

from __future__ import annotations

import pytest

from letheon.core.scoring.said import place_of, says


@pytest.mark.parametrize(
    ("answer", "value", "expected"),
    [
        ("She owns the blue door.", '"Blue Door"', True),
        ("She owns a door.", "Blue Door", False),
        ("She has 4.", "4", True),
        ("In 1934.", "4", False),
        ("It bears 3.5 bar.", "3.5 bar", True),
        ("她住在北京市。", "北京市", True),
        ("她住在北方。", "北京市", False),
        ("1934年生まれ", "1934", True),
        ("1934年生まれ", "34", False),
        ("彼はTokyoに住む", "tokyo", True),
        ("서울에서 산다", "서울", True),
        ("राम ने कहा", "राम", True),
        ("रम ने कहा", "राम", False),  # vowel signs tell
        ("im cafe\u0301", "Café", True),
        ("im Cafe", "Café", False),
        ("O\u02bcBrien, O\u2019Brien", "O'Brien", True),
        ("It was 5 %.", "5%", True),
        ("It was 5 apples.", "5 %", False),
        ("He wrote C.", "C++", False),
        ("He wrote C++ code.", "C++", True),
        ("What?", "\u2014", False),
        ("a \u2014 b", "\u2014", True),
        ("It costs $.", "$", True),
        ("\u660e\u5929\u53bb\u4e1c\u4eac", "\u4e1c\u4eac", True),
        # a part of a number or name is another one, beside letters of another script too
        ("15\u540d", "5\u540d", False),
        ("11934\u5e74", "1934\u5e74", False),
        ("1934\u5e74", "1934\u5e74", True),
        ("\u8840\u6db2\u578b\u306fBA\u578b", "A\u578b", False),
        ("\u4ed6\u4e09\u5341\u4e94\u5c81", "\u4e09", False),
        ("\u4ed6\u4e09\u5341\u4e94\u5c81", "\u4e09\u5341\u4e94", True),
        ("\u30b8\u30e7\u30f3\u30bd\u30f3\u3055\u3093", "\u30b8\u30e7\u30f3", False),
        ("\u30b8\u30e7\u30f3\u3055\u3093", "\u30b8\u30e7\u30f3", True),
        ("21\u00ba", "1\u00ba", False),
        ("Am \u02bfAlim", "\u02bfAli", False),
        ("Acme\u2122 makes it", "Acme", True),
        ("on Hawai\u02bbi", "Hawai'i", True),
        # particles are no part of a word, other words are
        ("\uc774 \uc0ac\ub78c\uc774", "\uc774\uc0ac", False),
        ("\ub098\uc774\ub294", "\uc774", False),
        ("\u0928\u093e\u092e \u0926\u093f\u0932\u094d\u0932\u0940 \u092e\u0947\u0902", "\u0926\u093f\u0932", False),
        ("\u05d5\u05d9\u05e8\u05d5\u05e9\u05dc\u05d9\u05dd", "\u05d9\u05e8\u05d5\u05e9\u05dc\u05d9\u05dd", True),
        ("\u041a\u0430\u043d\u0430\u0434\u0430", "\u041a\u0430\u043d", False),
        ("\uc11c\uc6b8\uc5d0\uc11c\ub294\uc694", "\uc11c\uc6b8", False),
        ("\ub300\uc11c\uc6b8", "\uc11c\uc6b8", False),
        ("\u0930\u093e\u092e\u092a\u0941\u0930", "\u0930\u093e\u092e", False),
        ("\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e\u0e2f", "\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e", True),
        ("\u0e01\u0e32\u0e49", "\u0e01\u0e32", False),
        ("\u3072\u3089\u304c\u306a", "\u3089\u304c", True),
        ("Stra\u00dfe", "STRASSE", True),
        ("\u0130stanbul", "istanbul", True),
        ("DIYARBAKIR", "Diyarbak\u0131r", True),
        ("Mos\u00adkau", "Moskau", True),
        # symbols
        ("AT and T", "AT&T", False),
        ("AT & T", "AT&T", True),
        ("no. 5", "#5", False),
        ("5", "$5", False),
        ("\U0001f44d", "\U0001f44e", False),
        ("I \u2764\ufe0f it", "\u2764", True),
        ("x - y", "x y", True),
        ("the Blue-Door", "blue door", True),
        ("O+ blood", "O-", False),
        ("O blood", "O-", False),
        ("O- blood", "O-", True),
        ("Grade A.", "A-", False),
        # numbers
        ("am 12.05.1934", "1934", True),
        ("page 3,4,5", "4", True),
        ("It costs $12,500", "$12,500", True),
        ("5", ".5", False),
        ("0.5", ".5", True),
        ("x=-3", "-3", True),
        ("It's $-5", "-5", True),
        ("\u0663\u0665", "35", True),
        ("", "a", False),
        ("a b", "", False),
        ("a b", " ", False),
        ("rooms 3, 5 and 7", "3.5", False),
        ("at 19:34", "19:34", True),
        ("in chapter 19, 34 people", "19:34", False),
        ("Call 01715552381.", "0171 555 2381", True),
        ("电话01715552381号", "0171 555 2381", True),
        ("Call (0171) 555-2381.", "01715552381", True),
        ("Call 0171 555 2382.", "0171 555 2381", False),
        ("71340 rows", "71,340", True),
        ("71,340 rows", "71340", True),
        ("71,341 rows", "71340", False),
        ("code 9418R", "9418-R", True),
        ("code 9418-R", "9418R", True),
        ("code 9481R", "9418-R", False),
        ("It is 105 km.", "10.5 km", False),
        ("1/21/1990", "12/1/1990", False),
        ("2021-1-12", "2021-11-2", False),
        ("192.168.1.12", "192.168.11.2", False),
        ("$15.00", "$1500", False),
        ("1000 €", "$1000", False),
        ("33,870", "-33,870", False),
        ("born at 19:34", "1934", False),
        ("in 20 24", "2024", False),
        ("10 20 30", "102030", False),
        ("1,2,3,4", "1234", False),
        ("In Zurich.", "Zu\u0308rich", True),
        ("In Zu\u0308rich.", "Zurich", True),
        ("p\u00e9ch\u00e9s", "p\u00eaches", False),
        ("Tr\u01b0\u1eddng", "Tr\u01b0\u1edfng", False),
        ("かんこくじん", "がんごぐじん", False),
        ("5 degrees", "-5", False),
        ("It was \u22125 degrees", "-5", True),
        ("from 1990-1995", "1995", True),
        ("\uff11\uff19\uff13\uff14", "1934", True),
    ],
)  # fmt: skip
def test_an_answer_says_a_value_by_its_words(answer: str, value: str, expected: bool) -> None:
    assert says(answer, value) is expected


def test_the_place_is_that_of_the_first_letter() -> None:
    assert place_of("A red cat, a grey dog, a red cat.", "Red Cat") == 2
    assert place_of("A red cat, a grey dog.", "grey dog") == 13
    assert place_of("a \u2014 b", "\u2014") == 2
    assert place_of("A red dog", "red cat") is None
    assert place_of("Anna met Ann", "Ann") == 9
    assert place_of("\u2014 a", "\u2014") == 0
