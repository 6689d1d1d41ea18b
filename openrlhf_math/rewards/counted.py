"""Things that a number counts: `12 apples` is 12. A word that is not here may change the value, `204 halves`."""

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
