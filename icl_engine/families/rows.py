"""All one-row families: objects are runs of one colour on a mostly black row."""

from icl_engine.families.family import Family
from icl_engine.families.rows_colour import ROW_COLOUR
from icl_engine.families.rows_extent import EXTENT
from icl_engine.families.rows_motion import MOTION
from icl_engine.families.rows_order import ORDER
from icl_engine.families.rows_repair import REPAIR

ROW_FAMILIES: tuple[Family, ...] = MOTION + EXTENT + REPAIR + ROW_COLOUR + ORDER
