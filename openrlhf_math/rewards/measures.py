"""Units of measure: what follows a number, read as a product of powers of known units.

A measure has a dimension, the powers of its base units, and a factor, so that `60 km/h` and `60 km per hour` are the
same and `150 mm` is `15 cm`. A word that counts things, `12 apples`, is a measure without a dimension. A word that is
neither known nor in the problem is none: it may change the value, as in `204 halves`.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

# base unit: m g s A K mol cd, money, angle (deg)
_BASES = {
    "m": "m meter meters metre metres",
    "g": "g gm gram grams gramme",
    "s": "s sec secs second seconds",
    "A": "A amp amps ampere amperes",
    "K": "K kelvin kelvins",
    "mol": "mol mole moles",
    "cd": "cd candela",
    "$": "$ dollar dollars usd bucks",
    "eur": "euro euros € eur",
    "gbp": "£ quid gbp",
    "yen": "yen ¥ jpy",
    "yuan": "yuan rmb cny",
    "inr": "₹ rupee rupees rs inr",
    "chf": "chf franc francs",
    "bit": "bit bits",
    "deg": "deg degree degrees ° ^\\circ",
    "C": "celsius °C",
    "F": "fahrenheit °F",
    "am": "am a.m. a.m",
    "pm": "pm p.m. p.m",
    "th": "th st nd rd",
    "mag": "mag mags magnitudes",
    "sq": "unit units",
    "dB": "dB decibel decibels",
    "pH": "pH",
    "rev": "rev revolutions",
}
_DERIVED: dict[str, tuple[int | str | Fraction, str, str]] = {  # (factor, of, names)
    "N": (1, "kg m s^-2", "N newton newtons"),
    "J": (1, "N m", "J joule joules"),
    "W": (1, "J s^-1", "W watt watts"),
    "Pa": (1, "N m^-2", "Pa pascal pascals"),
    "Hz": (1, "s^-1", "Hz hertz"),
    "Co": (1, "A s", "C coulomb coulombs"),
    "V": (1, "W A^-1", "V volt volts"),
    "Ohm": (1, "V A^-1", "Ω \\Omega ohm ohms"),
    "Fd": (1, "Co V^-1", "farad farads"),
    "T": (1, "V s m^-2", "T tesla teslas"),
    "Wb": (1, "V s", "Wb weber"),
    "H": (1, "V s A^-1", "H henry henries"),
    "eV": (Fraction("1.602176634e-19"), "J", "eV electronvolts"),
    "L": (Fraction(1, 1000), "m^3", "L l liter liters litre litres"),
    "erg": (Fraction(1, 10**7), "J", "erg ergs"),
    "dyn": (Fraction(1, 10**5), "N", "dyn dyne dynes"),
    "atm": (101325, "Pa", "atm atmospheres"),
    "bar": (100000, "Pa", "bar bars"),
    "cal": (Fraction("4.184"), "J", "cal calorie calories"),
    "min": (60, "s", "min mins minute minutes"),
    "h": (3600, "s", "h hr hrs hour hours"),
    "day": (86400, "s", "d day days"),
    "week": (604800, "s", "week weeks wk wks"),
    "month": (2629800, "s", "month months"),
    "yr": (31557600, "s", "yr yrs year years"),
    "in": (Fraction("0.0254"), "m", "in inch inches"),
    "ft": (Fraction("0.3048"), "m", "ft foot feet"),
    "yd": (Fraction("0.9144"), "m", "yd yds yard yards"),
    "mi": (Fraction("1609.344"), "m", "mi mile miles"),
    "lb": (Fraction("453.59237"), "g", "lb lbs pound pounds"),
    "oz": (Fraction("28.349523125"), "g", "oz ounce ounces"),
    "ton": (907185, "g", "ton tons"),
    "tonne": (10**6, "g", "tonne tonnes t"),
    "gal": (Fraction("0.003785411784"), "m^3", "gal gallon gallons"),
    "quart": (Fraction("0.000946352946"), "m^3", "quart quarts"),
    "pint": (Fraction("0.000473176473"), "m^3", "pint pints"),
    "cup": (Fraction("0.0002365882365"), "m^3", "cup cups"),
    "cent": (Fraction(1, 100), "$", "cent cents ¢"),
    "penny": (Fraction(1, 100), "$", "penny pennies"),
    "acre": (Fraction("4046.8564224"), "m^2", "acre acres"),
    "hectare": (10**4, "m^2", "ha hectare hectares"),
    "kph": (Fraction(5, 18), "m s^-1", "kph kmh kmph"),
    "mph": (Fraction("0.44704"), "m s^-1", "mph"),
    "byte": (8, "bit", "B byte bytes"),
    "angstrom": (Fraction(1, 10**10), "m", "Å angstrom angstroms \\AA"),
    "pc": (30856775814913673, "m", "pc parsec parsecs"),
    "AU": (149597870700, "m", "AU au"),
    "ly": (9460730472580800, "m", "ly"),
    "rad": (Fraction(180), "deg", "rad rads radian radians"),
    "rpm": (Fraction(1, 60), "rev s^-1", "rpm"),
    "M": (1000, "mol m^-3", "molar"),
    "knot": (Fraction("0.514444"), "m s^-1", "knot knots"),
    "kilo": (1000, "g", "kilo kilos"),
    "arcsec": (Fraction(1, 3600), "deg", "arcsec arcseconds arcsecond"),
    "lm": (1, "cd", "lumen lumens"),
    "psi": (Fraction("6894.757"), "Pa", "psi"),
    "Torr": (Fraction("133.322"), "Pa", "torr mmHg"),
    "hp": (Fraction("745.7"), "W", "hp horsepower"),
    "u": (Fraction("1.66053906660e-24"), "g", "amu"),
    "Wh": (3600, "J", "Wh"),
    "sr": (1, "", "sr steradian steradians"),
}
_PREFIXES = {
    "k": 3,
    "M": 6,
    "G": 9,
    "T": 12,
    "m": -3,
    "u": -6,
    "µ": -6,
    "μ": -6,
    "\\mu": -6,
    "n": -9,
    "p": -12,
    "c": -2,
    "d": -1,
    "h": 2,
    "f": -15,
}
_LONG_PREFIXES = {
    "kilo": 3,
    "mega": 6,
    "giga": 9,
    "tera": 12,
    "centi": -2,
    "milli": -3,
    "micro": -6,
    "nano": -9,
    "pico": -12,
    "deci": -1,
    "hecto": 2,
}
_PREFIXED = frozenset(("m g s A K mol N J W Wh Pa Hz Co V Ohm T Wb H eV L bar cal pc bit byte erg u").split())
# Said of any number, these change or withdraw it.
_CHANGING = frozenset(
    (
        "or and not nor but either neither maybe possibly to between plus minus times over if when where no "
        "yes negative hundred hundreds thousand thousands million millions billion billions trillion dozen "
        "dozens half halves quarter quarters third thirds fifth fifths tenth tenths eighth eighths score "
        "scores gross pair pairs couple couples ten tens fold wait however is are was mod squared cubed root "
        "inverse reciprocal doubled tripled twice base undefined factorial except least most fewer about "
        "roughly almost nearly up down off below above under wrong incorrect probably alternatively otherwise "
        "never lakh crore mil percent unsure guess approximately short"
    ).split()
)
_WORD = re.compile(r"[A-Za-zÅΩµμ°¢€£¥₹]+(?:[CF](?![a-zA-Z]))?|\\[a-zA-Z]+|\^ ?(?:\{ ?-?[0-9] ?\}|-?[0-9])|[/.$-]|[^ ]")
_MICRO = re.compile(r"\\mu ?(?=[a-zA-Z])")
_HALF_DAY = re.compile(r"(?<![a-zA-Z])([apAP])\. ?[mM]\.?")
_DEGREES_OF = re.compile(r"° ?([CF])(?![a-zA-Z])")
_CLASSIFIERS = frozenset("个只本人张条件元块分米斤次天年月日岁页支种位名头匹辆棵朵颗粒双把台")
_NOT_COUNTED = frozenset("和或万亿千百十半倍对双不非约至到点成分")
_SILENT = frozenset(["old", "tall", "long", "wide", "high", "deep", "US", "total", "altogether"])
_LOWERED = frozenset(("AM", "PM", "USD", "EUR", "GBP", "JPY", "CNY", "INR", "CHF", "Am", "Pm", "Rs", "KM", "CM"))
_IN_TOTAL = re.compile(r" in (?:total|all)\b")
_PER_SQUARED = re.compile(r"\bper (sec(?:ond)?|min(?:ute)?|hour) squared\b")
_POWER_WORDS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}


@dataclass(frozen=True, slots=True)
class Measure:
    """A unit. `dimension` has the powers of base units, sorted; none for counted `things`. `factor` is exact."""

    dimension: tuple[tuple[str, int], ...] = ()
    factor: Fraction = Fraction(1)
    things: frozenset[str] = frozenset()

    def agrees(self, other: "Measure") -> bool:
        """Whether two units are of the same dimension, or may count the same things."""
        if self.dimension != other.dimension:
            return False
        return not (self.things and other.things) or bool(self.things & other.things)


COUNT = Measure()


@lru_cache(maxsize=1)
def _table() -> dict[str, tuple[dict[str, int], Fraction]]:
    table: dict[str, tuple[dict[str, int], Fraction]] = {}
    names: dict[str, tuple[dict[str, int], Fraction]] = {}
    for base, words in _BASES.items():
        names[base] = ({base: 1}, Fraction(1))
        table |= dict.fromkeys(words.split(), names[base])
    names["kg"] = ({"g": 1}, Fraction(1000))
    for name, (factor, of, spellings) in _DERIVED.items():
        dimension: dict[str, int] = {}
        total = Fraction(factor)
        for part in of.split():
            unit, _, power = part.partition("^")
            powers, scale = names[unit]
            _multiply(dimension, powers, int(power or 1))
            total *= scale ** int(power or 1)
        names[name] = (dimension, total)
        table |= dict.fromkeys(spellings.split(), names[name])
    plain = dict(table)
    for name in _PREFIXED:
        for word in (_BASES.get(name) or _DERIVED[name][2]).split():
            prefixes = _PREFIXES if len(word) <= 3 or word == "\\Omega" else _LONG_PREFIXES
            for prefix, exponent in prefixes.items():
                table.setdefault(prefix + word, (names[name][0], names[name][1] * Fraction(10) ** exponent))
    return table | plain


def _multiply(dimension: dict[str, int], by: dict[str, int], power: int) -> None:
    """Multiply a dimension by a power of another, in place."""
    for base, exponent in by.items():
        dimension[base] = dimension.get(base, 0) + exponent * power


def unit_of_money(sign: str) -> Measure | None:
    """The measure of a currency sign before a number: `\\$`, `USD`, `Rs.`; None for other texts."""
    found = _table().get(sign.strip("\\. ")) or _table().get(sign.strip("\\. ").lower())
    return _measure(*found) if found else None


def _measure(dimension: dict[str, int], factor: Fraction) -> Measure:
    return Measure(tuple(sorted((base, power) for base, power in dimension.items() if power)), factor)


def read_measure(text: str, problem: str = "") -> Measure | None:
    r"""The measure that a text says, without styles: `cm^2`, `km per hour`, `m s^{-2}`, `red apples`; else None.

    problem: words of it may be counted, too.
    """
    text = _PER_SQUARED.sub(r"per square \1", _IN_TOTAL.sub("", text))
    text = _MICRO.sub("µ", _HALF_DAY.sub(r"\1m", text.replace("^\\circ", "°").strip(" ~()")))
    if text and "\u4e00" <= text[0] <= "\u9fff":
        return _counted_in_chinese(text)
    text = _DEGREES_OF.sub(r"°\1", text)
    pieces = [piece for piece in _WORD.findall(text) if piece not in _SILENT]
    if not pieces or len(pieces) > 24 or pieces[-1] in ("-", "/"):
        return None
    words = [piece for piece in pieces if piece[0].isalpha() and piece.isascii() and len(piece) > 1]
    if any(word.lower() in _CHANGING for word in words):
        return None
    return _product(pieces) or _counted(pieces, problem)


def _product(pieces: list[str]) -> Measure | None:
    dimension: dict[str, int] = {}
    factor = Fraction(1)
    sign, power_word, last, read = 1, 1, None, False
    for piece in [*pieces, ""]:
        if piece.startswith("^") and piece != "^" and last is not None and not piece.startswith("^\\"):
            exponent = int(piece.strip("^{} "))
            _multiply(dimension, last[0], last[2] * (exponent - 1))
            factor *= last[1] ** (last[2] * (exponent - 1))
            last = None
            continue
        if piece in ("", ".", "-", "\\cdot", "\\times", "*", "·", "~", "\\", "of"):
            continue
        if piece in ("/", "per", "a", "an", "each"):
            sign = -1
            last = None
            continue
        if piece in ("squared", "cubed"):
            return None
        if piece.lower() in _POWER_WORDS:
            power_word = _POWER_WORDS[piece.lower()]
            continue
        found = _unit(piece)
        if found is None:
            return None
        sign_now = sign * power_word
        _multiply(dimension, found[0], sign_now)
        factor *= found[1] ** sign_now
        last, power_word, read = (found[0], found[1], sign), 1, True
    if power_word != 1 and not read:
        return None
    dimension.pop("sq", None)
    return _measure(dimension, factor) if read else None


def _unit(piece: str) -> tuple[dict[str, int], Fraction] | None:
    table = _table()
    return table.get(piece) or (table.get(piece.lower()) if len(piece) > 3 or piece in _LOWERED else None)


def _counted(pieces: list[str], problem: str) -> Measure | None:
    words = [piece.lower() for piece in pieces]
    if not all(word.isalpha() or word in "-.'’" for word in words):
        return None
    words = [word for word in words if word.isalpha()]
    there = frozenset(re_word.lower() for re_word in _WORD.findall(problem[:4000])) if problem else frozenset()
    known = [counted(word) or any(stem in there for stem in stems(word)) and len(word) > 2 for word in words]
    if (
        words
        and any(known)
        and all(fine or describes(word) or _unit(word) for word, fine in zip(words, known, strict=True))
    ):
        return Measure(things=frozenset(stem for word in words if not describes(word) for stem in stems(word)))
    return None


def _counted_in_chinese(text: str) -> Measure | None:
    signs = text.replace(" ", "")
    counted_ = signs[0] in _CLASSIFIERS and not any(sign in _NOT_COUNTED or sign.isascii() for sign in signs[1:])
    return COUNT if counted_ else None


_STEMS = (
    "acorn actor adult airplane album alligator angle animal answer ant antacid apartment appetizer apple "
    "application appointment apron arm arrangement article artwork athlete atom attempt attendee avocado baby "
    "backpack bacteria bag baguette bale ball balloon banana band bar barrel baseball basket basketball bat batch "
    "bathroom bead beaker bean bear beat beaver bed bedroom bee belt bench berry bicycle bike bill billboard "
    "binder bird birdhouse biscuit bit blanket blister block blouse blueberry boat bolt bond bone bonu book "
    "bottle bouquet bowl box boxcar boy bracelet branch break brick bridge brother browny bucket bug builder "
    "building bulb bunch bundle bunny burger burrito buse bush bushel business butterfly button buyer byte "
    "cabinet cage cake call caller calory camper can candidate candle candy cane cantaloupe cantelope cap capsule "
    "car card cardinal carnation carpet carriage carrot carton carving case cat caterpillar cattle cell chair "
    "channel chaperone chapter character chart cheerleader cheese cheesecake chef cherry chick chicken child "
    "children chip chocolate choice chore circle citizen city clarinet class classmate classroom client clip "
    "cloud clover cluster coat cob coconut code coffee coin collar color coloring colour colouring column "
    "combination comic committee computer cone contact contain container contestant continent cooky cooler copy "
    "counter country coupon course cousin cover cow crab cracker cranberry crate crater crayon cricket croissant "
    "crow cube cucumber cup cupcake curry customer cycle daisy daughter deck decoration deer demerit desk device "
    "diagonal dice digit dime dinner distribution divisor doctor dog doll dolphin donation donut door dot "
    "doughnut drawing dress drink drop drum dryer duck duckling ear earring edge egg eggplant electron element "
    "elephant email employee enclosure enemy engineer entree envelope episode eraser exam eye face factor family "
    "fan farmer farthing feather feet female fence fern field figure figurine file finger firework fish fishbowl "
    "flag flat flavor flea flight flip floor flower fly flyer folder follower footprint fork form fowl fox frame "
    "friend frog fruit fry function gallery game gecko geese gem gift gingerbread giraffe girl glass gnome goal "
    "goat goose grader grape grocery group guest guitar gumball guppy haircut hall hamburger hand handbag "
    "handshake hanger hat head hen hif highlighter hike hill hit hole home honeydew horse hospital hotdog house "
    "hushpuppy individual ingredient inhabitant insect installment integer intersection ion item jack jacket jar "
    "jay jean jellybean jersey jogger jug jump kangaroo kernel key kid kind kitten knif knot ladder ladybug lamb "
    "lamp lap laptop latte lawn lawyer layer leaf leg lego lemon len length leopard lesson letter lick lid lif "
    "light lily lime line link lion lizard load loaf locker log lollipop loss macaron macaroon machine magazine "
    "maggot male man manager mango mangoe marble marigold mark marker marshmallow mask match matchstick material "
    "meal meatball member men message mice milkshake minnow minute mistake mitten model mof molecule monitor "
    "monkey motorcycle mouse movy muff muffin mug multiple mushroom nail napkin necklace neighbor nephew "
    "newspaper nickel niece night noodle note notebook novel nugget number nurse nut object offer omelette one "
    "onion orange orchid outcome outsider owl oxen oyster pack package packet page painting pan pancake panda "
    "panel pant papaya paper paragraph parakeet parent parrot particle partition party passenger password pastry "
    "patch path patient patron peach peanut pear pebble pen pencil penguin penny people pepper period permutation "
    "person peseta pet petal petunia phone photo photograph photon pic picture pie piece pig pigeon piglet pile "
    "pill pin pineapple pixel pizza plan plank plant plate player plum pocket pod point pointer pollywog "
    "polynomial poodle pool portion possibility postcard poster pot potatoe pouch pretzel prime problem pumpkin "
    "pup pupil puppy puzzle question quilt quizz rabbit racer radish raisin raspberry rat record recovery "
    "rectangle region rep repair request resident restaurant revolution rhino ride ring road robin rock rod roll "
    "room rooster root rose rotation round route row ruler run rung sack salad sale sandwich sausage scallop "
    "scarf school scoop screen seashell season seat sector seed seedling segment semester sentence sequence "
    "sequin serving session set share shark sheep sheet shelf shell shirt shoe shop short shot show sibling side "
    "sighting sign singer sister site situp skirt slice snail snake snowball snowflake sock soda soldier solution "
    "son song space sparkler speaker spear spectator specy spider spoke spool spoon spot square squirrel stack "
    "stair stalk stamp star starfish statue steak step stick sticker stitch stock stone stoplight store storey "
    "story strand straw strawberry street streetlight string stripe student subject subscriber subset suit "
    "suitcase sundae sunflower supplement supply supporter surfer survey swallow sweater sweet switch symmetry "
    "table tangerine tank tart task tea teacher team teeth television tent tesla text textbook thermose thing "
    "throw ticket tie tiger tile tin tip tire tissue toad toddler toe toenail token tomatoe toothbrush toothpick "
    "topping toss touchdown toward towel tower toy tractor tray treasure treat tree trial triangle tricycle trip "
    "truck trumpet trunk try tub tube tulip turkey turn turnip turtle unit utensil utility value vampire van "
    "vegetable vehicle vertice video visit visitor vote voter waiter wall walnut watermelon way weasel website "
    "weed weight whale wheel whisker whistle whistler widget win window wing wipe wolf woman women word workday "
    "worker worksheet worm yarn zebra zero zeroe zomby zone "
)
_COUNTED = frozenset(_STEMS.split())
_DESCRIBED = frozenset(
    "red blue green yellow black white brown pink purple orange gold silver grey gray big small large little tall long "
    "new old good empty full different distinct possible total whole square cubic the of in a an altogether left "
    "remaining each per his her their such real natural consecutive similar us".split()
)


def counted(word: str) -> bool:
    """Whether a lower-case word names what can be counted."""
    return any(stem in _COUNTED for stem in stems(word))


def describes(word: str) -> bool:
    """Whether a lower-case word may be between a number and what it counts, `5 red apples`."""
    return word in _DESCRIBED


def stems(word: str) -> tuple[str, ...]:
    """What a lower-case word may be the plural of, itself included."""
    found = [word]
    if word.endswith("ies"):
        found.append(word[:-3] + "y")
    if word.endswith("ves"):
        found += [word[:-3] + "f", word[:-3] + "fe"]
    if word.endswith("es"):
        found.append(word[:-2])
    if word.endswith("s") and not word.endswith("ss"):
        found.append(word[:-1])
    return tuple(found)
