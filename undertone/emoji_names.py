# /// script
# requires-python = ">=3.11"
# dependencies = ["emoji==2.16.0", "protobuf", "sentencepiece==0.2.3"]
# ///
"""Write ``emoji_names.tsv`` and ``emoji_names.bin`` anew: ``uv run --script undertone/emoji_names.py``.

The first is for people: an emoji of one code point and its English short name in CLDR (https://cldr.unicode.org), taken
from the package ``emoji``. The second is what `undertone.text.install_cleaning` reads: the same as a compiled character
map of SentencePiece (Kudo and Richardson, 2018, https://aclanthology.org/D18-2012), which its trainer makes.
"""

import io
from pathlib import Path

import emoji
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

#: Signs that are emoji, too, and that BERT's vocabulary has: they stay what they are.
SIGNS = "©®™↔▪♠♣♥♦"
#: Variation selector 16 and the box of a keycap: they say how to draw the character before them.
MARKS = "\N{VARIATION SELECTOR-16}\N{COMBINING ENCLOSING KEYCAP}"

HERE = Path(__file__).parent


def read_names() -> dict[str, str]:
    """Name by emoji; empty for what only changes the look of another one."""
    names = {
        char: about["en"].strip(":").replace("_", " ").lower()
        for char, about in sorted(emoji.EMOJI_DATA.items())
        if len(char) == 1 and char not in SIGNS
    }
    return {char: "" if name.endswith("skin tone") else name for char, name in names.items()} | dict.fromkeys(MARKS, "")


def compile_names(names: dict[str, str]) -> bytes:
    """The character map that puts a blank, the name and a blank in the place of an emoji."""
    rules = HERE / "emoji_rules.tsv"
    lines = (f"{ord(char):X}\t{' '.join(f'{ord(x):X}' for x in _between_blanks(name))}" for char, name in names.items())
    rules.write_text("\n".join(lines) + "\n", encoding="ascii")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["any text will do"]),
            model_writer=model,
            vocab_size=20,
            hard_vocab_limit=False,
            normalization_rule_tsv=str(rules),
            minloglevel=2,
        )
    finally:
        rules.unlink()
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    return bytes(proto.normalizer_spec.precompiled_charsmap)


def _between_blanks(name: str) -> str:
    # never nothing: tokenizers counts places wrong after a text that begins with what is replaced by nothing
    return f" {name} " if name else " "


if __name__ == "__main__":
    found = read_names()
    table = "".join(f"{char}\t{name}\n" for char, name in found.items())
    (HERE / "emoji_names.tsv").write_text(table, encoding="utf-8")
    (HERE / "emoji_names.bin").write_bytes(compile_names(found))
