"""What English text becomes: each case is a rule as a reader would say it."""

import pytest

from tacoskip.text import normalize

NUMBERS = [
    ("1,234,567 people",
     "one million, two hundred thirty-four thousand, five hundred sixty-seven people"),
    ("it fell to -5", "it fell to minus five"),
    ("the 1st, 22nd and 103rd", "the first, twenty-second and one hundred third"),
    ("3.14 and .5 and 1,000.25",
     "three point one four and point five and one thousand point two five"),
    ("0 007 1000000", "zero zero zero seven one million"),
    ("10-20 or 5–10%", "ten to twenty or five to ten percent"),
    ("a 50-50 chance", "a fifty-fifty chance"),
    ("two 747s", "two seven hundred forty-sevens"),
    ("12345678901234567890", " ".join(["one two three four five six seven eight nine zero"] * 2)),
]  # fmt: skip
YEARS = [
    ("in 1898", "in eighteen ninety-eight"),
    ("in 1807 and 1900", "in eighteen oh seven and nineteen hundred"),
    ("2005, then 2010", "two thousand five, then twenty ten"),
    ("the 1900s, the 1960s, the '80s",
     "the nineteen hundreds, the nineteen sixties, the 'eighties"),
    ("1939-1945", "nineteen thirty-nine to nineteen forty-five"),
    ("He had 1500 sheep in 1500.", "He had fifteen hundred sheep in fifteen hundred."),
    ("contained 1308 prisoners", "contained one thousand three hundred eight prisoners"),
    ("In 586, he came; 323 B.C. and A.D. 70",
     "In five eighty-six, he came; three twenty-three B C and A D seventy"),
    ("in 586 houses", "in five hundred eighty-six houses"),
]  # fmt: skip
DATES_AND_TIMES = [
    ("November 22, 1963", "November twenty-two, nineteen sixty-three"),
    ("2026-11-21", "November twenty-one, twenty twenty-six"),
    ("11/21/2026 and 21/11/2026", "November twenty-one, twenty twenty-six and November twenty-one, "
     "twenty twenty-six"),
    ("Jan. 5, 1990", "January five, nineteen ninety"),
    ("at 12:30 p.m. on", "at twelve thirty P M on"),
    ("at 3:05pm.", "at three oh five P M."),
    ("7:00 or 15:00", "seven o'clock or fifteen hundred"),
    ("10:30-11:45", "ten thirty to eleven forty-five"),
    ("a ratio of 16:9, John 3:16", "a ratio of sixteen to nine, John three sixteen"),
    ("2023-12-25T10:05:00Z", "December twenty-five, twenty twenty-three ten oh five"),
    ("Wed., Feb. 5; he sat 5 days", "Wednesday, February five; he sat five days"),
]  # fmt: skip
MONEY = [
    ("$3.50", "three dollars, fifty cents"),
    ("$1, $0.01, $1.01", "one dollar, one cent, one dollar, one cent"),
    ("£5 and £3.01", "five pounds and three pounds, one penny"),
    ("$1.5 billion, £2bn", "one point five billion dollars, two billion pounds"),
    ("$20,000", "twenty thousand dollars"),
    ("-$5 and 5€ and 50¢", "minus five dollars and five euros and fifty cents"),
    ("$5-$10", "five to ten dollars"),
    ("$100K-$200K", "one hundred thousand dollars to two hundred thousand dollars"),
    ("a non-$5 thing", "a non-five dollars thing"),
    ("a $20 bill, US$5, 10 USD", "a twenty dollar bill, five U S dollars, ten dollars"),
]
MEASURES = [
    ("5 km, 1 km, 5km/h", "five kilometers, one kilometer, five kilometers per hour"),
    ("-5°C (23°F)", "minus five degrees Celsius (twenty-three degrees Fahrenheit)"),
    ("16 GB and 20 m²", "sixteen gigabytes and twenty square meters"),
    ("""5'10" tall, 6 ft. wide""", "five feet ten inches tall, six feet wide"),
    ("a 5-km run of 60 mph", "a five-kilometer run of sixty miles per hour"),
    ("50% of", "fifty percent of"),
    ("1/2, 3/4, 2 1/2, ⅔", "one half, three quarters, two and a half, two thirds"),
    ("the area of x²", "the area of x squared"),
    ("x² and 10^6", "x squared and ten to the power of six"),
    ("in 25-30 min. Add 1.2M", "in twenty-five to thirty minutes. Add one point two million"),
    ("open 24/7", "open twenty-four seven"),
]
NAMES_AND_REFERENCES = [
    ("Henry VIII and Louis XIV.", "Henry the eighth and Louis the fourteenth."),
    ("in the reign of James I., who", "in the reign of James the first, who"),
    ("George III. was King", "George the third was King"),
    ("Chapter IV, World War II", "Chapter four, World War two"),
    ("the part I like; Mary I know", "the part I like; Mary I know"),
    ("the XIX century", "the nineteenth century"),
    ("No. 5 and #7", "Number five and number seven"),
    ("Exhibit No. 133-A, page 249", "Exhibit Number one thirty-three A, page two forty-nine"),
    ("serial number C2766", "serial number C two seven six six"),
    ("P.O. Box 2915", "P O Box two nine one five"),
    ("at 214 Neely Street", "at two one four Neely Street"),
    ("COVID-19, MP3, 1080p", "COVID-nineteen, M P three, ten eighty p"),
]
ABBREVIATIONS = [
    ("Dr. Smith met Mr. and Mrs. Jones.", "Doctor Smith met Mister and Missus Jones."),
    ("Elm St. is in St. Paul.", "Elm Street is in Saint Paul."),
    ("Smith & Co., etc.", "Smith and Company, et cetera."),
    ("i.e. this, e.g. that vs. it", "that is this, for example that versus it"),
    ("the Dr. said so to the Lt.", "the Doctor said so to the Lieutenant."),
    ("the U.S. Army", "the U S Army"),
    ("I left the U.S. He stayed.", "I left the U S. He stayed."),
    ("J. R. R. Tolkien", "J R R Tolkien"),
    ("It was I. I did it.", "It was I. I did it."),
    ("the FBI's CEO at NASA", "the F B I's C E O at NASA"),
    ("IT IS LOUD in HERE", "IT IS LOUD in HERE"),
    ("vol. 3, p. 5", "volume three, page five"),
    ("a work of art. Five came.", "a work of art. Five came."),
]
MARKS = [
    ("AT&T @ 5 + 3 = 8", "AT and T at five plus three equals eight"),
    ("and/or", "and or"),
    ("3 ≤ 4, a < b", "three less than or equal to four, a less than b"),
    ("C++; #tag", "C plus plus; hashtag tag"),
    ("“Quoted” — it’s naïve…", "\"Quoted\" -- it's naive..."),
    ("Łódź, Москва", "Lodz, Moskva"),
    ("see https://www.example.com/a-b.",
     "see W W W dot example dot com slash a dash b."),
    ("john.doe@example.org", "john dot doe at example dot org"),
    ("(555) 123-4567", "five five five, one two three, four five six seven"),
    ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight"),
]  # fmt: skip
TELEPHONE = [
    *((written, "one two three, four five six, seven eight nine zero") for written in (
        "123-456-7890", "(123) 456-7890", "(123)-456-7890", "123.456.7890", "123 456 7890")),
    *((written, "plus one, one two three, four five six, seven eight nine zero") for written in (
        "+1 123-456-7890", "+1-123-456-7890", "+1 (123)-456-7890", "+1(123) 456-7890")),
    ("1-800-555-0199", "one, eight zero zero, five five five, zero one nine nine"),
    ("1-800-FLOWERS", "one, eight hundred, FLOWERS"),
    ("123-456-7890 x12", "one two three, four five six, seven eight nine zero, extension one two"),
    ("555-0199", "five five five, zero one nine nine"),
]  # fmt: skip
UNITS_AND_AMOUNTS = [
    ("12KG, 10 KM, 3MPH, 2 KWH",
     "twelve kilograms, ten kilometers, three miles per hour, two kilowatt hours"),
    ("3 Mbps, 1 mbps, 5 Gb, 10GB", "three megabits per second, one megabit per second, five "
     "gigabits, ten gigabytes"),
    ("5 mW and 5 MW", "five milliwatts and five megawatts"),
    ("100 US troops, 3 PM, 5 in Boston", "one hundred U S troops, three P M, five in Boston"),
    ("12/kg, $20/hr, 3 km/s, 5 mg/dL", "twelve per kilogram, twenty dollars per hour, three "
     "kilometers per second, five milligrams per deciliter"),
    ("100 million kg, 4 1/2 lbs, 20 m2, 6 mos", "one hundred million kilograms, four and a half "
     "pounds, twenty square meters, six months"),
    ("$20.5, $20.500, £1.111", "twenty dollars, fifty cents, twenty dollars, fifty cents, "
     "one point one one one pounds"),
    ("¥30 b, ¥30b, $5 k, a $20 T-shirt", "thirty billion yen, thirty billion yen, five thousand "
     "dollars, a twenty dollars T-shirt"),
    ("a 401(k) and a 501(c)(3)", "a four oh one K and a five oh one C three"),
]  # fmt: skip
US_ADDRESSES = [
    ("2788 San Tomas Expy, Santa Clara, CA 95051",
     "twenty-seven eighty-eight San Tomas Expressway, Santa Clara, California, nine five zero five "
     "one"),
    ("2 Oak hwy, Tampa, FL, 33601-1234", "two Oak Highway, Tampa, Florida, three three six zero "
     "one, one two three four"),
    ("12 Laguna Ct, Albany, NY", "twelve Laguna Court, Albany, New York"),
    ("1211 E Arques Ave", "twelve eleven East Arques Avenue"),
    ("708 N 1st St, Reno", "seven oh eight North first Street, Reno"),
    ("Yes, OK. In St Ives; Dr Who", "Yes, O K. In St Ives; Doctor Who"),
]  # fmt: skip
RANGES_AND_DIFFERENCES = [
    ("1-2=5, 3 - 2 = 1, 5−3", "one minus two equals five, three minus two equals one, five minus "
     "three"),
    ("pages 5-10, -5 - -3", "pages five to ten, minus five to minus three"),
    ("1960s-80s, 2016/07/03", "nineteen sixties to eighties, July three, twenty sixteen"),
    ("JAN 15 2020, jan. 15", "January fifteen twenty twenty, January fifteen"),
    ("11:20AM,2:40PM.", "eleven twenty A M,two forty P M."),
    ("Sam II, World War II", "Sam the second, World War two"),
    ("1∗2⋅3≧4", "one times two times three greater than or equal to four"),
]  # fmt: skip
CASES = [
    *NUMBERS, *YEARS, *DATES_AND_TIMES, *MONEY, *MEASURES, *NAMES_AND_REFERENCES, *ABBREVIATIONS,
    *MARKS, *TELEPHONE, *UNITS_AND_AMOUNTS, *US_ADDRESSES, *RANGES_AND_DIFFERENCES,
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_reading(text: str, expected: str) -> None:
    assert normalize(text) == expected


@pytest.mark.parametrize("expected", [expected for _, expected in CASES])
def test_what_is_read_once_stays(expected: str) -> None:
    assert normalize(expected) == expected


def test_style_of_ljspeech_leaves_what_its_transcripts_leave() -> None:
    text = "Dr. Müller of the FBI paid $3.50 to No. 5 at 12:30 p.m."
    assert normalize(text, style="ljspeech") == (
        "Dr. Müller of the FBI paid three dollars, fifty cents to Number five at twelve:thirty p.m."
    )
    # The voice hears the same whether it is given the text or the corpus' column.
    assert normalize(normalize(text, style="ljspeech")) == normalize(text)


def test_unknown_style() -> None:
    with pytest.raises(ValueError, match="expected style spoken or ljspeech, got 'plain'"):
        normalize("a", style="plain")


def test_white_space_and_case() -> None:
    assert normalize("  The\n\tCat \u00a0 sat. ") == "The Cat sat."
    assert normalize("") == ""
