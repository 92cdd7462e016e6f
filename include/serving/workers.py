"""The health of a gateway as a whole, from the board that all of its processes share."""

from __future__ import annotations

from typing import Any

from include.serving.board import Board, Column


def workers_of(board: Board) -> dict[str, Any]:
    """How many worker processes take requests, and of each: its process, its state and how often it was replaced."""
    said = {worker["slot"]: worker for worker in board.status.get("workers", ())}
    live = board.live
    workers = [
        {
            "slot": slot,
            "pid": said.get(slot, {}).get("pid"),
            "state": "live" if slot in live else "starting" if said.get(slot, {}).get("pid") else "down",
            "leads": slot == board.leader,
            "connections": board.read(slot, Column.CONNECTIONS),
            "started_at": said.get(slot, {}).get("started_at"),
            "restarts": said.get(slot, {}).get("restarts", 0),
            "last_exit": said.get(slot, {}).get("last_exit"),
        }
        for slot in range(board.slots)
    ]
    return {"configured": board.slots, "live": len(live), "workers": workers}
