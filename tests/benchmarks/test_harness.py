"""Figures and the table that the README shows."""

from __future__ import annotations

import pytest

from benchmarks.harness import BEGIN, END, Figure, replace_between_markers, summarise, table

HOST = {"processor": "P", "cores": 2, "memory_gib": 8.0, "python": "3.11", "load_before": 0.5}


def test_a_figure_is_the_median_beside_its_peer() -> None:
    figure = summarise("serving", "requests", [90, 100, 110, 400], unit="1/s", peer="other", peer_values=[10, 20, 30])
    assert (figure.value, figure.spread, figure.n) == (105.0, 85.0, 4)
    assert (figure.peer_value, figure.peer_spread, figure.ratio) == (20.0, 10.0, 5.25)
    assert figure.to_json()["ratio"] == 5.25 and Figure.from_json(figure.to_json()) == figure
    alone = summarise("parse", "seconds", [0.25])
    assert (alone.spread, alone.ratio) == (0.0, None)
    with pytest.raises(ValueError, match="no measurement"):
        summarise("parse", "seconds", [])


def test_turns_are_compared_with_themselves() -> None:
    """A neighbour that slows every second turn to a third leaves the ratio of each as it is."""
    figure = summarise("training", "rate", [90, 30, 92, 31], peer="bare", peer_values=[100, 30, 100, 32], paired=True)
    assert figure.ratio == pytest.approx((0.92 + 31 / 32) / 2)
    assert f"| {figure.ratio:.2f} ± {figure.paired_spread:.2f} |" in table([figure], {"training": HOST})
    with pytest.raises(ValueError, match="shorter"):
        summarise("training", "rate", [90, 30], peer="bare", peer_values=[100], paired=True)


def test_the_table_replaces_what_is_between_the_markers() -> None:
    figures = [
        summarise("serving", "requests", [1234.5], unit="1/s", peer="other", peer_values=[10], note="closed loop")
    ]
    text = table(figures, {"serving": HOST})
    assert "| serving | requests [1] | 1,234 ± 0 1/s | 10 ± 0 1/s (other) | 123.45 | 1 |" in text
    assert (
        "[1] closed loop" in text
        and "Machine: P, 2 cores, 8.0 GiB, Python 3.11; load average before: serving 0.5." in text
    )
    readme = f"# Title\n{BEGIN}\nold\n{END}\nrest\n"
    once = replace_between_markers(readme, text)
    assert "old" not in once and once.startswith("# Title") and once.endswith("rest\n")
    assert replace_between_markers(once, text) == once
    with pytest.raises(ValueError, match="has no"):
        replace_between_markers("# Title", text)
