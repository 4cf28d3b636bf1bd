"""The symbol tables: the characters, or the phonemes, a voice has an embedding for.

Both are fixed here, so that a checkpoint means the same whatever espeak is installed; a new symbol
may only ever be appended.
"""

import re

PADDING = "_"
END = "~"
PUNCTUATION = " !'(),-.:;?\""
# Marks that read like one of PUNCTUATION: a bracket of any shape is the same pause.
SAME_AS = {"[": "(", "]": ")", "{": "(", "}": ")"}

# A stretch of phonemes in a text, spoken as written: [[ˈɡaʊdə]].
PHONEME_MARK = re.compile(r"\[\[[^\[\]]+\]\]")

CHARACTERS = (PADDING, END, *"abcdefghijklmnopqrstuvwxyz", *PUNCTUATION)

# The International Phonetic Alphabet in decomposed form (NFD): a nasal vowel is the vowel and a
# tilde. Digits are the tones espeak writes behind syllables.
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_VOWELS = "æøœɐɑɒɔɘəɚɛɜɝɞɤɨɪɯɵɶʉʊʌʏᵻᵊɩε"
_CONSONANTS = "ðħŋɓɕɖɗɟɠɡɢɣɥɦɧɫɬɭɮɰɱɲɳɴɸɹɺɻɽɾʀʁʂʃʄʈʋʍʎʐʑʒʔʕʘʙʛʜʝʟʡʢθβχǀǁǂǃɼʦ"
_MODIFIERS = "ˈˌːˑʰʱʲʷˠˤˀʼ˞ⁿˡᵝ"
_COMBINING = "".join(
    chr(code)
    for code in (
        # nasal, voiceless, voiced, syllabic, dental, non-syllabic, advanced, retracted, raised,
        # lowered, breathy, creaky, rounded, less rounded, extra short, ties, no release, cedilla
        *(0x303, 0x325, 0x30A, 0x32C, 0x329, 0x32A, 0x32F, 0x31F, 0x320, 0x31D, 0x31E, 0x324),
        *(0x330, 0x339, 0x31C, 0x306, 0x361, 0x35C, 0x31A, 0x327, 0x308, 0x334, 0x33A, 0x33B),
    )
)
_TONES = "0123456789˥˦˧˨˩↑↓"
PHONEMES = (
    *(PADDING, END, *PUNCTUATION),
    *(*_LETTERS, *_VOWELS, *_CONSONANTS, *_MODIFIERS, *_COMBINING, *_TONES),
)
