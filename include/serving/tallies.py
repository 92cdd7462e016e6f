"""What a process counts beside its answers, kept on the board, where every process can add it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.serving.board import COUNTERS, Column
from include.serving.memory import resident_mb

if TYPE_CHECKING:
    from include.serving.gateway import Gateway


CLIENT_REFUSED = "client-refused"


class Tallies:
    """Writes this process' numbers into its column of the board, and reads the sums over all columns."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._board = gateway.seat.board
        slot = self._slot = gateway.seat.slot
        self._refused: dict[str, int] = {}
        self._before = {column: self._board.read(slot, column) for column in COUNTERS}  # by processes that died

    def publish(self) -> None:
        """Shows the others how this process stands."""
        gateway = self._gateway
        models = gateway.watcher.models
        now = {
            Column.ROWS_PENDING: gateway.log.pending,
            Column.LOG_STALLED: gateway.log.stalled,
            Column.SHADOW_WAITING: gateway.shadow.waiting,
            Column.ROWS_WRITTEN: gateway.log.written,
            Column.ROWS_DROPPED: gateway.log.dropped,
            Column.SHADOW_DROPPED: gateway.shadow.dropped,
            Column.TURNED_AWAY: gateway.turned_away + gateway.admission.refused_full,
            Column.UNDER_WAY: gateway.admission.under_way,
            Column.RESIDENT_KB: int((resident_mb() or 0.0) * 1e3),
            Column.MODEL_WAITING: sum(model.batcher.waiting_rows for model in models),
            Column.MODEL_STUCK: sum(model.batcher.stuck for model in models),
            Column.MODEL_CALLS: sum(model.batcher.calls for model in models),
            Column.MODEL_ROWS: sum(model.batcher.rows for model in models),
        }
        for column, value in now.items():
            self._board.write(self._slot, column, self._before.get(column, 0) + value)
        for client, count in list(gateway.admission.refused_clients.items()):
            gateway.stats.tally(CLIENT_REFUSED, client, count - self._refused.get(client, 0))
            self._refused[client] = count

    def sum(self, column: Column) -> int:
        """Over all processes; those of the others are as of their last interval."""
        return self._board.sum(column)

    def to_json(self) -> dict[str, Any]:
        """`shadow_lane` and `prediction_log` of `/v1/stats`."""
        self.publish()
        return {
            "shadow_lane": {"waiting": self.sum(Column.SHADOW_WAITING), "dropped": self.sum(Column.SHADOW_DROPPED)},
            "prediction_log": {
                "written": self.sum(Column.ROWS_WRITTEN),
                "pending": self.sum(Column.ROWS_PENDING),
                "dropped": self.sum(Column.ROWS_DROPPED),
            },
        }
