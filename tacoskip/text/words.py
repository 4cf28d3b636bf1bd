"""The word lists the rules of tacoskip.text look in."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words a sentence often begins with. After a stop that may belong to an abbreviation ("at 5 p.m.
# The jury"), only one of these tells that the sentence ended there: names are capitalised too.
STARTERS = _words(
    """
    A About After All Also Although An And Another Any Are As At Because Before Both But By Can
    Did Do Does During Each Even Every Everyone Few Finally First For From Had Has Have He Her
    Here Hers His How However I If In Indeed Instead Is It Its Just Later Let Many Maybe
    Meanwhile More Moreover Most Much My Neither Never Nevertheless Next No Nobody None Nor
    Nothing Now Of Often On Once One Only Or Other Our Perhaps Please Several She Should Since
    So Some Someone Something Sometimes Soon Still Such Suddenly That The Their Then There
    Therefore These They This Those Though Through Thus To Today Tomorrow Two Under Until Upon
    Very Was We Were What When Whenever Where Whether Which While Who Whose Why Will With
    Without Would Yes Yesterday Yet You Your
    """
)

# A number of four digits behind one of these is a year even before a plural noun.
YEAR_WORDS = _words(
    """
    after april august before by c. circa december during early february from in january july
    june late march may mid november october of september since the till until year years
    """
)

# Capitals that are read as words although they look like initialisms.
READ_AS_WORDS = _words(
    """
    AH AM AN AS AT BE BY CRY DO DR DRY FLY FRY GO GYM HA HE HEY HI HM HMM HYMN IF IN IS IT JSON
    ME MR MRS MY MYTH NO OF OH ON OR OW OX PRY PSST SHH SHY SKY SO SPY ST TO TRY UP WE WHY YAML
    """
)

# Capitals that are spelled although they could be read as words.
SPELLED = _words(
    """
    ABC ADHD AKA AOL API ATM CEO CFO CIA CIO COO CTO DIY DOE DOJ DUI EEC EEG EKG EPA ESA EST ETA
    FAA FAQ FIA GOP HIV IMF IOU IPO IRA IRS ISO ISS LED MBA MIA MIT MRI NAACP NBA NEA NIH OED
    PLO POW PTA ROI ROTC SEC SEO SOS SUV TBA UAE UAV UAW UCLA UFC UFO UHF UPS URL USA USB USC
    VAT VIP
    """
)

# Given names of rulers and popes, who carry numbers: Henry VIII.
RULERS = _words(
    """
    Abdul Adolf Adrian Albert Alexander Alexios Alfonso Amadeus Anastasius Andrew Antiochus
    Artaxerxes August Augustus Baldwin Benedict Boniface Carl Carol Casimir Catherine Charles
    Christian Clement Constantine Constantius Cyrus Darius David Edgar Edmund Edward Elizabeth
    Eric Ernest Ferdinand Francis Franz Frederick Friedrich Fyodor George Gregory Gustav
    Gustavus Haakon Hadrian Harald Harold Henry Honorius Hussein Innocent Isabella Ivan Jack
    James Jean Joan Johan John Joseph Juan Julius Justin Justinian Karl Kenneth Konrad
    Ladislaus Leo Leon Leopold Louis Ludwig Luis Magnus Manuel Margaret Maria Martin
    Mary Matthias Maximilian Mehmed Michael Mithridates Mohammed Muhammad Murad Napoleon
    Nebuchadnezzar Nicholas Olaf Osman Otto Paul Pedro Peter Philip Philippe Pius Ptolemy
    Rainier Rama Ramesses Ramses Richard Robert Rudolf Sancho Sargon Selim Seti Sigismund
    Sixtus Stephen Suleiman Sweyn Theodosius Thutmose Tiberius Umberto Urban Valdemar Victor
    Victoria Vladimir Wilhelm Wilhelmina William Xerxes Yaroslav
    """
)

# What is numbered with Roman numerals: Chapter IV, World War II.
PARTS = _words(
    """
    Act Acts Annex Apollo Appendix Art. Article Articles Book Books Bowl Canto Category Ch.
    Chapter Chapters Class Column Corps Division Episode Exhibit Fig. Figure Game Gemini Generation
    Grade Group Item Lecture Level Mark Opus Page Paragraph Part Parts Phase Plate
    Psalm Question Rule Saturn Scene Schedule Sec. Section Sections Series Session Stage Step
    Symphony Table Task Tier Title Type Unit Verse Version Vol. Volume Volumes War
    """
)
