"""The text families, gathered: lists, everyday records, edits of strings, symbols, and small worlds in words."""

from icl_engine.families.family import Family
from icl_engine.families.texts_lists import ITEM_LIST_FAMILIES
from icl_engine.families.texts_logic import LOGIC_FAMILIES
from icl_engine.families.texts_numbers import NUMBER_LIST_FAMILIES
from icl_engine.families.texts_people import PEOPLE_FAMILIES
from icl_engine.families.texts_phrases import PHRASE_FAMILIES
from icl_engine.families.texts_records import RECORD_FAMILIES
from icl_engine.families.texts_sequences import SEQUENCE_FAMILIES
from icl_engine.families.texts_strings import STRING_FAMILIES
from icl_engine.families.texts_things import THING_FAMILIES
from icl_engine.families.texts_worlds import WORLD_FAMILIES

TEXT_FAMILIES: tuple[Family, ...] = (
    NUMBER_LIST_FAMILIES
    + ITEM_LIST_FAMILIES
    + PEOPLE_FAMILIES
    + RECORD_FAMILIES
    + STRING_FAMILIES
    + PHRASE_FAMILIES
    + LOGIC_FAMILIES
    + SEQUENCE_FAMILIES
    + THING_FAMILIES
    + WORLD_FAMILIES
)
