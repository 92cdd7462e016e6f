"""Sources of data: which of them a run looks at, how they are reached, and what a delivery's content is.

A source offers deliveries. What an offer costs to look at depends on the place: `Place` is the port, with one adapter
for local files, S3, HTTP and SQL each. Nothing is fetched before it is known to be needed.
"""

from include.data.sources.place import Offer, Place, Window
from include.data.sources.reading import delivery_digest, open_place, reading_mark, records_of
from include.data.sources.selection import DECLARED, Selection, SourceRef, select_sources, source_id
from include.data.sources.waiting import count_new_rows

__all__ = [
    "DECLARED",
    "Offer",
    "Place",
    "Selection",
    "SourceRef",
    "Window",
    "count_new_rows",
    "delivery_digest",
    "open_place",
    "reading_mark",
    "records_of",
    "select_sources",
    "source_id",
]
