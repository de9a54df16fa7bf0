"""Small lists of everyday words and names from which the text families draw. Only data and ways to draw from it."""

import random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = _words(
    """apple arrow autumn badge basket beach bell bird board boat bone book bottle box branch bread brick bridge brush
    bucket butter button cabin cake camel camera candle card carpet castle chain chalk cheese cherry church circle clock
    cloud coat coffee coin corner cotton crown cup curtain desk dish doctor door dream dress drum dust eagle earth
    engine fan farm feather fence field fire fish flag floor flower forest fork frame frog garden gate ghost glass glove
    goat gold grape grass guitar hammer hand harbour hat hill honey horn horse hotel house ice ink island jacket jar
    jewel juice kettle key king kitchen kite knife ladder lake lamp leaf lemon letter light lion lock machine map
    marble market meadow milk mirror money moon morning mountain mouse music nail needle nest night nose oak ocean
    office olive onion orange oven owl page paint palace paper park peach pear pencil pepper piano picture pillow pipe
    planet plate pocket pond potato queen rabbit radio rain ribbon ring river road rocket roof room rope rose ruler
    salt sand school sea seed shadow sheep ship shirt shoe shop silver sister skirt sky smoke snow soap sock song soup
    spoon spring stamp star station stone storm street sugar summer sun table tea teacher temple tent thread ticket
    tiger tower town toy train tree tunnel valley vase village violin voice wagon wall watch water wheel whistle wind
    window winter wire wolf wood wool yard zebra"""
)
ADJECTIVES = _words(
    """big blue brave bright broken calm cheap clean clever cold cool dark deep dry early easy empty fair fast fine flat
    fresh full green grey happy hard heavy high hot huge kind large late lazy light long loud lucky neat new nice old
    open pale plain poor proud quick quiet rare red rich ripe rough round sad safe sharp short shy slow small smart soft
    sour square steep still strong sweet tall thick thin tiny tired warm weak wet white wide wild wise young"""
)
COMMON_WORDS = _words(
    """a able about above according across act action actually add after again against age ago agree air all allow
    almost alone along already also although always am among amount an and animal another answer any anyone anything
    appear are area around arrive as ask at away baby back backward bad ball base be beautiful because become before
    begin behind believe below best better between big bit black board body book both bottom bought box boy break
    bring brother brought build but buy by call came can car card care carry case cause center certain chance change
    character check child children choose city class clear close closed cold color come common company compare
    complete completely consider contain continue correct correctly could count country course cover create cross
    cut dance date day decide deep describe did difference different difficult direction do doctor does dog dollar
    done door down draw drink drive drop dry during each early easy eat edge eight either else empty end enough
    enter entire equal even evening event ever every everyone everything exactly example except expect explain eye
    face fact fall false family far fast father favorite feel few field figure fill final finally find fine finish
    fire first five floor follow following food foot for force forward found four free friend friends from front
    full game gave general get gift girl give given glass go goal gold gone good got great green ground group grow
    had half hand happen happy hard has have he head hear heart help her here high him himself his hit hold home
    hope hour house how however human hundred I idea if important in include indeed input inside instead
    instructions into is it item items its itself job join just keep kind knew know land language large last late
    later laugh law lead learn least leave left less let letter letters level lie lies life light like line list
    listen little live long look lose lost lot love low made main make making man many map mark match matter may me
    mean measure meet meeting member men middle might mile mind minute miss money month more morning most mother
    mouth move movie much music must my name near need never new next nice night nine no none nor north not note
    nothing notice now number object objects of off often old on once one only open opposite option options or order
    other others our out outside over own page pair part party pass past pay people perhaps person phone pick
    picture piece place plain plan play player please point position possible power present problem produce properly
    put question quick quite rain reach read ready real really reason receive red remain remember rest result return
    ride right road room rule run said same sat saw say says school sea season second see seem sell send sense
    sentence sequence serve set seven several shall shape she short should show side simple since sing sister sit
    situation six size sleep slow small so some someone something sometimes song soon sort sound south space speak
    special stand start state statement stay step steps still stood stop story straight street strong student study
    such sum summer sun sure swap table take talk teach team tell ten test than that the their them then there these
    they thing things think third this those though thought thousand three through time times title to today
    together told tomorrow too took top total toward town trade train travel tree tried trip true truth try turn two
    type under understand unit until up upon us use used usual usually value very visit voice wait walk wall want
    war was watch water way we wear week well went were west what when where whether which while white who whole
    whom whose why will win window winter wish with within without woman women word words work world would write
    wrong year years yes yesterday yet you young your
    """
)
VERBS = _words(
    "add ask bake bend blow boil call carry catch check clean climb cook count dance draw dream drink drop fill find "
    "fix "
    "fold follow grow help hide hold jump keep kick knit learn lift listen look mark melt mend miss move open paint "
    "pass "
    "plan plant play point pour pull push reach read rest ride save sell send shout sing sleep smile start stay stop "
    "swim talk taste teach throw touch turn visit wait walk wash watch work write"
)
FIRST_NAMES = _words(
    """Ada Adam Alan Alex Alice Amanda Amy Andrew Angela Anna Anthony Arthur Barbara Bella Ben Betty Bob Boris Brian
    Bruce Cara Carl Carol Catherine Charles Charlie Chris Claire Clara Colin Dana Daniel Dave David Deborah Dennis
    Diana Donna Dora Dorothy Ed Edward Elena Elizabeth Ella Emil Emily Emma Eric Eva Eve Felix Fiona Frank Fred
    George Gina Grace Greg Hana Hannah Harry Helen Henry Hugo Ida Igor Iris Isabel Ivan Jack James Jane Jason Jeff
    Jennifer Jerry Jessica Jill Jim Joan Joe John Jordan Josef Joseph Judy Julia Justin Karen Karl Kate Keith Kelly
    Kevin Kim Kurt Lara Larry Laura Lena Leo Lewis Lily Linda Lisa Louis Lucas Lucy Mara Maria Mark Marta Martin
    Mary Matthew Max Megan Mia Michael Michelle Milo Mona Nadia Nancy Nathan Nick Nicole Nina Noah Nora Olga Oliver
    Olivia Omar Oscar Otto Pamela Patricia Patrick Paul Pavel Peter Petra Philip Piotr Rachel Rafa Ralph Raymond
    Rebecca Richard Rita Rob Robert Roger Rosa Ruth Ryan Sam Samuel Sandra Sara Sarah Scott Sharon Simon Sofia
    Sophie Stephen Steve Susan Tara Teresa Theo Thomas Tim Tina Tom Tony Tyler Uma Vera Victor Vincent Virginia
    Walter Wayne Wendy Will William Yara Zoe
    """
)
LAST_NAMES = _words(
    """Adler Baker Barnes Bauer Berg Black Blake Brown Carter Chen Clark Cole Cook Costa Cruz Dean Dixon Duval Evans
    Fischer Ford Fox Garcia Grant Gray Green Hall Hansen Hill Horn Hughes Ivers Jones Keller Kelly King Klein Kumar Lane
    Lee Lopez Marsh Mason Meyer Mills Moore Nagy Nolan Novak Olsen Park Patel Perez Pope Quinn Reed Rossi Rowe Russo
    Sato Shaw Silva Singh Smith Stone Tanaka Taylor Turner Vance Vega Wagner Walsh Webb West White Wolf Wood Young
    """
)
CITIES = _words(
    """Athens Bergen Berlin Bern Boston Cairo Dallas Delhi Denver Dublin Geneva Genoa Ghent Hanoi Havana Kyoto Lagos
    Leeds
    Lima Lisbon London Lyon Madrid Malmo Milan Munich Nairobi Naples Nice Osaka Oslo Oxford Paris Prague Quito Riga Rome
    Seoul Sofia Sydney Tokyo Tunis Turin Vienna Warsaw York Zagreb Zurich"""
)
KINDS: dict[str, tuple[str, ...]] = {
    "animal": _words("ant bear cat cow crow deer dog donkey duck eel fox frog goat goose hare hen horse lion mole "
                    "monkey moth otter owl pig rat seal sheep snake swan tiger toad wasp whale wolf zebra"),
    "fruit": _words("apple apricot banana cherry fig grape kiwi lemon lime mango melon orange papaya peach pear "
                   "pineapple plum quince raspberry strawberry"),
    "vegetable": _words("bean beet cabbage carrot celery garlic kale leek lettuce onion parsnip pea potato pumpkin "
                       "radish spinach turnip"),
    "colour": _words("amber black blue brown crimson gold green grey ivory orange pink purple red silver teal violet "
                    "white yellow"),
    "tool": _words("axe chisel drill file hammer ladder pliers rake ruler saw shovel spade wrench"),
    "furniture": _words("armchair bed bench bookcase chair couch cupboard desk dresser lamp shelf sofa stool "
                       "table wardrobe"),
    "instrument": _words("banjo bassoon cello clarinet drum flute guitar harp lute oboe piano trombone trumpet tuba "
                        "violin"),
    "clothing": _words("belt blouse boot cap cape coat dress glove hat jacket scarf shirt shoe skirt sock sweater tie "
                      "vest"),
    "vehicle": _words("bicycle boat bus canoe car ferry lorry moped plane raft ship sled taxi tractor train tram truck "
                     "van"),
}  # fmt: skip
# Things a person can hold or own.
THINGS = KINDS["fruit"] + KINDS["tool"] + KINDS["instrument"] + KINDS["clothing"] + KINDS["vehicle"]
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
                "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
                "twenty")  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def invented_word(rng: random.Random, n_syllables: int = 2) -> str:
    """Draw a pronounceable word that means nothing, so that a rule cannot be replaced by memory of its words."""
    word = "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(n_syllables))
    return word + rng.choice(_CONSONANTS) if rng.random() < 0.4 else word


def any_word(rng: random.Random) -> str:
    """Draw a common word or, one time in four, an invented one."""
    kind = rng.random()
    if kind < 0.25:
        return invented_word(rng, rng.choice((1, 2, 2, 3)))
    return rng.choice(NOUNS if kind < 0.7 else ADJECTIVES if kind < 0.85 else VERBS)


def phrase(rng: random.Random, n_words: int) -> list[str]:
    """Draw `n_words` lower-case words, each as `any_word` does."""
    return [any_word(rng) for _ in range(n_words)]


def with_article(word: str) -> str:
    """Put "a" or "an" before a word, by its first letter."""
    return f"{'an' if word[0] in _VOWELS else 'a'} {word}"


def web_domain(rng: random.Random) -> str:
    """Draw a domain of two parts, such as "smoke.com"."""
    return rng.choice((any_word, invented_word))(rng) + rng.choice((".com", ".org", ".net", ".eu", ".co", ".io"))
