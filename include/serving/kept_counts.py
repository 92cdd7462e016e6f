"""Counts outlive the processes that counted: each writes its own into the object store, and reads what others left.

The counts of a generation lie under `counts/<family>/<generation>/<name>.json`, one object per `name`: the gateway and
the number of the process in it. A process writes its object anew while its counts change, and at its end, so that a
gateway that is killed loses what one interval held, and one that is stopped loses nothing. The counts of a generation
are the sum over all objects: those of gateways before this one, and of gateways beside it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from time import monotonic

from include.errors import WindtunnelError
from include.serving.stats import Stats
from include.serving.tally import GenerationCounts
from include.store.objects import ObjectNotFound, ObjectStore

log = logging.getLogger(__name__)

PREFIX = "counts"
_REMEMBERED = 64


class KeptCounts:
    """Writes the counts of one process in the background, and adds up those of all.

    Args:
        gateway: Name of the gateway, the same in all of its processes.
        own: Number of this process in it.
        seconds: How often changed counts are written, and how old those of other gateways may be that are read.
    """

    def __init__(
        self,
        store: ObjectStore,
        stats: Stats,
        gateway: str,
        own: int,
        seconds: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._stats = stats
        self._gateway = gateway
        self._own = own
        self._seconds = seconds
        self._clock = clock
        self._written: dict[tuple[str, int], bytes] = {}
        self._others: dict[tuple[str, int], tuple[float, dict[str, GenerationCounts]]] = {}
        self._flushing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kept-counts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stops the thread and writes what changed last.

        Raises:
            StoreError: The store cannot be written.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        self.flush()

    def flush(self) -> None:
        """Writes the counts of every generation whose counts changed.

        Raises:
            StoreError: The store cannot be written; the next flush tries again.
        """
        with self._flushing:
            opened = self._stats.opened()
            for family, generation in opened:
                counts = self._stats.own_counts(family, generation)
                if counts is None:  # it went into the totals just now
                    continue
                data = json.dumps(counts.to_record(), sort_keys=True).encode()
                if data != self._written.get((family, generation)):
                    self._store.put(f"{_folder(family, generation)}{self._name(self._own)}.json", data)
                    self._written[family, generation] = data
            self._written = {key: data for key, data in self._written.items() if key in opened}

    def joined(self, family: str, generation: int) -> GenerationCounts | None:
        """The counts of a generation over all processes of all gateways; None where none ever served it.

        Raises:
            StoreError: The counts that others wrote cannot be read.
            CountsError: They are not counts.
        """
        parts = {
            self._name(slot): counts
            for slot, counts in enumerate(self._stats.counts(family, generation))
            if counts is not None
        }
        parts = self._kept(family, generation) | parts  # what is in memory is newer
        if not parts:
            return None
        total = GenerationCounts()
        for counts in parts.values():
            total.merge(counts)
        return total

    def _kept(self, family: str, generation: int) -> dict[str, GenerationCounts]:
        """What lies in the store, by name; read again when it is older than `seconds`."""
        at, found = self._others.get((family, generation), (None, {}))
        if at is not None and self._clock() - at < self._seconds:
            return found
        found = read_counts(self._store, family, generation)
        if len(self._others) >= _REMEMBERED:
            self._others.clear()
        self._others[family, generation] = (self._clock(), found)
        return found

    def _name(self, slot: int) -> str:
        return f"{self._gateway}-{slot}"

    def _run(self) -> None:
        warned = False
        while not self._stopping.wait(self._seconds):
            try:
                self.flush()
                warned = False
            except WindtunnelError as error:  # the counts stay in memory; the next round tries again
                if not warned:
                    log.warning("the counts cannot be written: %s", error)
                warned = True


class CountsError(WindtunnelError):
    """An object under `counts/` does not hold counts."""


def read_counts(store: ObjectStore, family: str, generation: int) -> dict[str, GenerationCounts]:
    """What the processes of all gateways wrote of a generation, by name.

    Raises:
        StoreError: The store cannot be read.
        CountsError: An object holds no counts.
    """
    found, folder = {}, _folder(family, generation)
    for key in store.keys(folder):
        try:
            record = json.loads(store.get(key))
            found[key[len(folder) : -len(".json")]] = GenerationCounts.from_record(record)
        except ObjectNotFound:  # removed since it was listed
            continue
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise CountsError(
                f"these are no counts of a gateway: {type(error).__name__}: {error}",
                where=store.uri(key),
                hint="remove the object: its counts are lost, and the stage is judged on the others",
            ) from error
    return found


def _folder(family: str, generation: int) -> str:
    return f"{PREFIX}/{family}/{generation:08d}/"
