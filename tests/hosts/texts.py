"""Texts for tokenizers: several scripts, odd spaces and controls, and all code points."""

from __future__ import annotations

import random
import sys
import unicodedata
from collections.abc import Sequence

RUN = 64
SENTENCES = (
    "Wake me when the pasta is done, please!",
    "Réveille-moi quand les pâtes sont prêtes\u00a0; l\u2019été, c\u2019est à 30\u202f°C.",
    "Weck mich, wenn die Nudeln fertig sind \u2013 Straße, GRÜẞE, Äpfel.",
    "¿Dónde está mi tarjeta? ¡Mañana, señor!",
    "Разбуди меня, когда паста будет готова. Ёлка и й.",
    "Ξύπνα με όταν είναι έτοιμα τα ζυμαρικά. ΟΔΥΣΣΕΥΣ ς Σ.",
    "İstanbul'da ışıklar; I, ı, İ, i \u2013 ĞÜŞÖÇ.",
    "パスタができたら起こしてください。ﾊﾟｽﾀ がぎぐげご",
    "面条好了叫醒我，謝謝！㐀㐁 𠀀𠀁 豈更",
    "파스타가 다 되면 깨워 주세요. \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "أيقظني عندما تنضج المعكرونة. مُحَمَّد ١٢٣٤",
    "הער אותי כשהפסטה מוכנה. שָׁלוֹם",
    "पास्ता तैयार होने पर मुझे जगाना। क़ ख़ १२३",
    "ปลุกฉันเมื่อพาสต้าเสร็จ น้ำ ๑๒๓",
    "Đánh thức tôi khi mì chín: ằ ế ộ ữ.",
    "গরম ভাত, தமிழ் நூறு, తెలుగు, ಕನ್ನಡ, മലയാളം",
    "Հայերեն ԲԱՐԵՎ և ქართული ᲥᲐᲠᲗᲣᲚᲘ",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 \u200d\ufe0f 1️⃣",
    "e\u0301\u0323 a\u0323\u0301 q\u0307\u0323\u0345 \u0344\u0f73 \u1e69 ſ ﬁ ﬀ Å K Ω ǆ ŉ",
    "user@example.com https://x.org/a?b=c&d=%20 #tag $3.50 C++ a_b-c/d\\e ~`^|<>",
)
SPECIAL = (
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[UNK]",
    "[PAD]",
    "[sep]",
    "[ CLS ]",
    "##ing",
    "</s>",
    "<mask>",
)
SPACES = (
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\u00a0",
    "\u2009",
    "\u3000",
    "\u2028",
    "\x85",
    "\x1c",
    "\u200b",
)
CONTROLS = (
    "\0",
    "\x01",
    "\x7f",
    "\x9f",
    "\ufffd",
    "\ufeff",
    "\u00ad",
    "\u202e",
    "\U000e0041",
    "\ue000",
)
BLOCKS = (
    (0x20, 0x7F),
    (0xA0, 0x250),
    (0x300, 0x370),
    (0x370, 0x600),
    (0x900, 0x0E00),
    (0x1E00, 0x2100),
)

LONG_WORDS = [part * n for part in ("a", "ab", "\u0301", "字", "é") for n in range(1, 150, 7)]


def word(draw: random.Random) -> str:
    kind = draw.randrange(10)
    if kind < 4:
        return draw.choice(draw.choice(SENTENCES).split())
    if kind == 4:
        return draw.choice(SPECIAL)
    if kind == 5:
        return draw.choice(CONTROLS)
    if kind == 6:
        low, high = draw.choice(BLOCKS)
        return "".join(chr(draw.randrange(low, high)) for _ in range(draw.randrange(1, 12)))
    if kind == 7:
        return "".join(anything(draw) for _ in range(draw.randrange(1, 6)))
    if kind == 8:
        part = draw.choice(("a", "ab", "Straße", "é", "e\u0301", "字", "!", "\U0001f600", "क"))
        return part * draw.choice((1, 20, 99, 100, 101, 150))
    return draw.choice(draw.choice(SENTENCES).split()).swapcase()


def anything(draw: random.Random) -> str:
    code = draw.randrange(sys.maxunicode - 0x7FF)
    return chr(code if code < 0xD800 else code + 0x800)


def texts(seed: int, count: int) -> list[str]:
    """Whole sentences, and words of all kinds in a row; some are empty."""
    draw = random.Random(seed)
    made = ["", " ", "\n", *SENTENCES]
    while len(made) < count:
        words = [word(draw) for _ in range(draw.choice((0, 1, 2, 5, 12)))]
        made.append("".join(w + draw.choice(("", *SPACES[:1] * 8, *SPACES)) for w in words))
    return made


def every_code_point() -> list[str]:
    """All code points between letters, a few in each text."""
    return between_letters([*range(0xD800), *range(0xE000, sys.maxunicode + 1)])


def assigned_code_points() -> list[str]:
    """Those in planes with characters."""
    return between_letters([*range(0xD800), *range(0xE000, 0x32000), *range(0xE0000, 0xE0200)])


def changing_code_points() -> list[str]:
    """Those that normalization forms change, but for most Hangul, and combining marks."""
    codes = [c for c in range(0x30000) if not 0xD800 <= c < 0xE000 and not 0xAC40 <= c < 0xD780]
    return between_letters(
        [
            c
            for c in codes
            if unicodedata.normalize("NFKD", chr(c)) != chr(c) or unicodedata.combining(chr(c))
        ]
    )


def between_letters(codes: Sequence[int]) -> list[str]:
    return [
        "".join(f"{chr(code)}A{chr(code)}\u0301 " for code in codes[start : start + RUN])
        for start in range(0, len(codes), RUN)
    ]
