"""The codes in reports of fatal and catastrophic accidents in construction.

Industries are division C of the Standard Industrial Classification of 1987, whole. Injuries, operations and causes are
names from the forms of the US Occupational Safety and Health Administration, as they occur in the data. The classes are
those of Goh and Ubeynarayana (see `schema`).
"""

from __future__ import annotations

from collections.abc import Mapping

CLASSES = frozenset(
    {
        "caught in/between objects", "collapse of object", "electrocution", "exposure to chemical substances",
        "exposure to extreme temperatures", "falls", "fires and explosion", "others", "struck by falling object",
        "struck by moving objects", "traffic",
    }
)  # fmt: skip

INDUSTRIES = frozenset(
    {
        "1521", "1522", "1531", "1541", "1542", "1611", "1622", "1623", "1629", "1711", "1721", "1731", "1741", "1742",
        "1743", "1751", "1752", "1761", "1771", "1781", "1791", "1793", "1794", "1795", "1796", "1799",
    }
)  # fmt: skip

INJURIES = frozenset(
    {
        "Amputation", "Asphyxia", "Bruise/Contus/Abras", "Burn(Chemical)", "Burn/Scald(Heat)", "Cancer", "Concussion",
        "Cut/Laceration", "Dermatitis", "Dislocation", "Electric Shock", "Foreign Body Ineye", "Fracture",
        "Freezing/Frost Bite", "Hearing Loss", "Heat Exhaustion", "Hernia", "Other", "Poisoning(Systemic)", "Puncture",
        "Radiation Effects", "Strain/Sprain",
    }
)  # fmt: skip

OPERATIONS = frozenset(
    {
        "Backfilling and compacting", "Bituminous concrete placement", "Cutting concrete pavement", "Demolition",
        "Dredging", "Emplacing reinforcing steel", "Erecting structural steel", "Excavation", "Exterior carpentry",
        "Exterior cladding", "Exterior masonry", "Exterior painting", "Fireproofing", "Forming",
        "Forming for piers or pylons", "Installing culverts and incidental drainage", "Installing metal siding",
        "Installing underground plumbing conduit", "Interior carpentry", "Interior masonry",
        "Interior painting and decorating", "Landscaping", "Loading dock forming and pouring", "Paving", "Pile driving",
        "Placing bridge deck", "Placing bridge girders and beams", "Plastering", "Pouring concrete floor at grade",
        "Pouring concrete foundations and walls", "Pouring or installing floor decks", "Roofing",
        "Site clearing and grubbing", "Site grading and rock removal", "Stripping and curing concrete", "Surveying",
        "Swimming pool construction", "Traffic protection", "Waterproofing",
    }
)  # fmt: skip

_ELECTRIC = frozenset({"electrocution", "fires and explosion"})
_FALL = frozenset({"falls", "collapse of object"})
_COLLAPSE = frozenset({"collapse of object", "caught in/between objects", "struck by falling object"})
_FIRE = frozenset({"fires and explosion", "electrocution"})
_POISON = frozenset({"exposure to chemical substances", "others"})
_STRUCK = frozenset({"struck by falling object", "struck by moving objects", "collapse of object"})

#: Cause of death as the inspector found it -> the classes that go with it; any other is worth a second look.
CLASSES_OF_CAUSE: Mapping[str, frozenset[str]] = {
    "Asphyxiation/inhalation of toxic vapor": _POISON,
    "Caught in stationary equipment": frozenset({"caught in/between objects"}),
    "Collapse of structure": _COLLAPSE,
    "Crushed/run": CLASSES,
    "Drown": CLASSES,
    "Electric shock": _ELECTRIC,
    "Electrocution by equipment contacting wire": _ELECTRIC,
    "Electrocution by touching exposed wire/source": _ELECTRIC,
    "Electrocution from equipment installation/tool use": _ELECTRIC,
    "Elevator": CLASSES,
    "Fall": _FALL,
    "Fall from roof": _FALL,
    "Fall from vehicle": _FALL | {"traffic"},
    "Fall from/with bucket": _FALL,
    "Fall from/with ladder": _FALL,
    "Fall from/with platform catwalk": _FALL,
    "Fall from/with scaffold": _FALL,
    "Fall from/with structure": _FALL,
    "Fall through opening": _FALL,
    "Fire/explosion": _FIRE,
    "Heat/hypothermia": frozenset({"exposure to extreme temperatures"}),
    "Lifting operations": CLASSES,
    "Other": CLASSES,
    "Struck by falling object/projectile": _STRUCK,
    "Trench collapse": _COLLAPSE,
    "Unloading": CLASSES,
    "Wall": CLASSES,
}
CAUSES = frozenset(CLASSES_OF_CAUSE)
