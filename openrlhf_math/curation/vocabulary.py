"""English words of problems by what a change of them does: opposites, bounds, units, grammar, synonyms."""

from itertools import product

# Words of which one instead of another makes another problem.
_OPPOSITES = [
    frozenset(group.split())
    for group in (
        "more less fewer",
        "most fewest least",
        "at-least at-most exactly",
        "largest smallest second-largest",
        "sum difference product quotient ratio remainder average number total",
        "even odd",
        "positive negative nonnegative nonpositive",
        "before after",
        "above below",
        "over under",
        "inside outside",
        "first last",
        "area perimeter circumference volume radius diameter circumradius inradius side diagonal height length width",
        "add subtract multiply divide",
        "added subtracted multiplied divided",
        "plus minus times",
        "increase decrease",
        "increased decreased",
        "increases decreases",
        "increasing decreasing",
        "mean median mode range variance",
        "domain range codomain",
        "arithmetic geometric harmonic",
        "left right",
        "up down",
        "with without",
        "all none some",
        "every no",
        "gave received",
        "faster slower",
        "older younger",
        "taller shorter",
        "longer shorter",
        "heavier lighter",
        "wider narrower",
        "earlier later",
        "day week month year hour minute second",
        "days weeks months years hours minutes seconds",
        "daily weekly monthly yearly",
        "prime composite",
        "rational irrational",
        "row column",
        "rows columns",
        "clockwise counterclockwise",
        "horizontal vertical",
        "parallel perpendicular",
        "numerator denominator",
        "square cube triangle circle rectangle hexagon pentagon octagon sphere cylinder cone",
        "integer integers real complex rational",
        "sine cosine tangent",
        "each total",
        "remaining used left",
        "percent times",
        "more less fewer times",
        "square-of cube-of",
        "squares squares-of cubes cubes-of",
        "boys girls",
        "men women",
        "boy girl",
        "man woman",
        "won lost",
        "wins losses",
        "heads tails",
        "red blue green yellow white black orange purple",
        "long wide tall deep high",
        "length width height depth",
        "base height",
        "hypotenuse leg",
        "opposite adjacent",
        "acute obtuse right",
        "equilateral isosceles scalene",
        "concave convex",
        "concavity extrema monotonicity inflection",
        "maxima minima",
        "x-intercept y-intercept",
        "quotient remainder",
        "dividend divisor",
        "permutations combinations",
        "divisible indivisible",
        "divisors multiples factors",
        "ordered unordered",
        "distinct identical",
        "distinguishable indistinguishable",
        "same different",
        "same distinct",
        "replacement order",
        "open closed",
        "union intersection",
        "chord tangent secant",
        "altitude median bisector",
        "centroid orthocenter incenter circumcenter",
        "floor ceil",
        "north south east west",
        "morning afternoon evening night",
        "monday tuesday wednesday thursday friday saturday sunday",
        "january february march april may june july august september october november december",
        "profit loss cost revenue",
        "income expense",
        "buyer seller",
        "full empty",
        "hot cold",
        "ascending descending",
        "forward backward",
        "start end",
        "beginning end",
        "top bottom",
        "front back",
        "inner outer",
        "internal external",
        "interior exterior",
        "minimum maximum",
        "upper lower",
        "encrypt decrypt",
        "encode decode",
        "import export",
        "true false",
        "correct incorrect",
        "necessary sufficient",
        "and or",
        "either both neither",
        "units tens hundreds thousands",
        "longest shortest middle",
        "tallest shortest",
        "oldest youngest",
        "heaviest lightest",
        "fastest slowest",
        "nearest farthest closest furthest",
        "widest narrowest",
        "best worst",
        "interior exterior face space",
        "surface lateral base",
        "both only neither",
        "factor exceed",
        "faces edges vertices sides diagonals",
        "probability odds",
        "average altogether",
        "average total",
    )
]
# In a story any word of one line may be put for another of it, none for one of the other line.
_GAINING = "gains gets finds buys receives earns wins found bought got earned won"
_LOSING = "loses gives sells spends donates lost gave sold spent donated"
_OPPOSITES += [frozenset(pair) for pair in product(_GAINING.split(), _LOSING.split())]
OPPOSED = {
    word: frozenset().union(*(group for group in _OPPOSITES if word in group)) - {word}
    for word in frozenset().union(*_OPPOSITES)
}
# A prefix that turns a word around, and prefixes of which one instead of another does: in-scribed, circum-scribed.
TURNING = ("un", "in", "im", "ir", "non", "dis", "anti", "counter")
PREFIXES = (
    "in circum de en ex im sub super over under inter intra pre post up down out hypo hyper mono multi bi tri quad con "
    "di mini maxi semi fore".split()
)
NEGATIONS = frozenset(
    "not no never cannot isn't aren't don't doesn't didn't can't won't nor neither without none nothing".split()
)
# What bounds or restricts: one more or less makes another problem.
BOUNDS = frozenset(
    "at-least at-most exactly odd even prime composite positive negative nonnegative nonpositive nonzero distinct "
    "rational irrational consecutive ordered square-of squares-of squared cube-of cubes-of cubed double triple "
    "reciprocal absolute twice "
    # of figures, functions and rates
    "interior exterior acute obtuse isosceles equilateral scalene regular convex concave inscribed circumscribed "
    "inner outer internal external lateral surface perpendicular parallel complementary supplementary monic "
    "palindromic cents largest smallest net gross biased unbiased".split()
)
UNITS = frozenset(
    "centimeters meters kilometers millimeters inches feet yards miles grams kilograms pounds ounces liters "
    "milliliters gallons seconds minutes hours days weeks months years dollars cents euros degrees radians "
    "acres".split()
)

# Words that carry grammar or courtesy: one for another, one more or one less changes nothing.
GRAMMAR = frozenset(
    "the of is are was were be been being to in on at by for from with and that which who whom whose this these those "
    "it its "
    "he she they his her their them him we our us you your i'm let's there here then thus so as if when where while "
    "since "
    "because does do did has have had will would could should can may might also just only now today please find what "
    "how "
    "many much value answer following suppose assume let given consider denote denoted such into onto per each a an "
    "one's "
    "altogether together still all whole itself himself herself themselves during upon about possible expressed "
    "express "
    "solve problem question show determine compute calculate what's is's called named known written write form like "
    "some "
    "any both respectively but however moreover hence therefore get gets got terms term simplest number total "
    "amount".split()
)
SYNONYMS = {
    other: line.split()[0]
    for line in (
        "buy buys bought purchase purchases purchased",
        "child children kid kids",
        "begin begins began start starts started starting beginning commence",
        "receive receives received get gets got obtains obtained",
        "money cash",
        "large big huge",
        "small little tiny",
        "require requires required need needs needed",
        "want wants wanted wish wishes wished",
        "cost costs price priced prices",
        "make makes made produce produces produced",
        "own owns owned possess possesses has have had",
        "everyday daily",
        "person people individual individuals man",
        "student students pupil pupils",
        "mother mom mum mama",
        "father dad papa",
        "pick picks picked choose chooses chose chosen select selects selected",
        "remain remains remaining left",
        "finish finishes finished end ends ended complete completes completed",
        "total altogether all",
        "automobile car cars automobiles",
        "store shop stores shops",
        "roll rolls rolled throw throws thrown threw toss tosses tossed flip flips flipped",
        "die dice",
        "natural whole",
        "satisfying satisfy satisfies",
        "equal equals",
        "remove removes removed",
        "give gives gave given hand hands handed",
        "divide divides divided split splits",
        "biggest largest",
        "different distinct",
        "similarly likewise",
        "entire whole",
        "collect collects collected gather gathers gathered",
        "speed velocity rate",
        "journey trip",
        "bicycle bike bicycles bikes",
        "flower flowers",
        "combine combined",
        "additional more extra further another",
        "every each",
        "real",
        "integer integers",
        "sides side",
        "randomly random",
        "probability chance likelihood",
        "altogether overall",
        "quickly fast",
        "return returns returned",
        "travel travels traveled travelled",
        "walk walks walked",
        "spend spends spent pay pays paid",
        "bake bakes baked cook cooks cooked",
        "friend friends buddy buddies pal pals",
        "arrive arrives arrived reach reaches reached",
        "evaluate compute",
        "prove show",
    )
    for other in line.split()
}
ENDINGS = ("s", "es", "ed", "d", "ing", "ly", "'s")
