"""The quality of a version: what is measured is right, what cannot be measured is not invented, alerts advise."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from include.data.manifest import Manifest
from include.data.quality import Coverage, Diversity, Domains, Freshness, Quality, distinct_pairs, evenness, freshness
from include.data.quality_alerts import alerts
from include.data.quality_page import render
from include.data.quality_store import load_all, load_quality, quality_key
from include.errors import UserError
from include.settings import Settings
from include.spec.quality import CoverageSpec, QualitySpec

from .conftest import FAMILY, Deliveries, Pipeline, ask, make_spec

RULES = {
    "text": "question",
    "coverage": [
        {"of": "passages.passage_key", "by": "questions.citations", "at_least": 0.9},
        {"of": "passages.document_id", "by": "questions.document_id"},
    ],
}


def quality(**changes: Any) -> Quality:
    values: dict[str, Any] = {
        "family": "f", "version": "1.0.0", "published_at": datetime(2026, 11, 2, tzinfo=UTC), "rows": 100,
        "validation_rate": 0.97, "reasons": {"empty_answer": 3, "duplicate": 9}, "coverage": [], "domains": [],
        "freshness": Freshness(newest_days=3, median_days=40),
        "diversity": Diversity(column="q", measured=50, distinct=1.0, near_duplicates=0.02, distinct_pairs=0.8),
    }  # fmt: skip
    return Quality(**values | changes)


@pytest.fixture
def measured(pipeline: Pipeline) -> tuple[Pipeline, dict[str, Any]]:
    pipeline.spec = make_spec(quality=RULES)
    return pipeline, pipeline.run()


class TestMeasured:
    def test_by_hand(self, measured: tuple[Pipeline, dict[str, Any]]) -> None:
        pipeline, made = measured
        manifest = Manifest.model_validate_json(pipeline.store.get(made["manifest_key"]))
        found = load_quality(pipeline.store, manifest)
        assert found is not None
        assert found.validation_rate == pytest.approx((30 + 2) / 38)  # 30 clean rows, 2 repeated, of 38
        passages, documents = found.coverage
        assert (passages.covered, passages.total, passages.missing) == (11, 14, ["CC:CC-1.2", "CC:CC-1.3", "CC:CC-1.4"])
        assert (documents.covered, documents.total, documents.missing) == (2, 3, ["BB"])
        [domains] = found.domains
        assert (domains.values, domains.largest, domains.largest_share) == (2, "AA", 10 / 16)
        assert domains.evenness == pytest.approx(0.9544, abs=1e-4)  # entropy of 10/16 and 6/16, in bits
        assert found.diversity is not None
        assert (found.diversity.measured, found.diversity.distinct) == (16, 1.0)
        assert found.diversity.near_duplicates == 0.0
        assert found.accuracy is None and "benchmark" in found.accuracy_why

    def test_texts_that_are_nearly_the_same_are_counted(self, pipeline: Pipeline, source: Deliveries) -> None:
        asked = "Which of the forms must be filed within three days by a {} that opens a branch in another port?"
        texts = [asked.format("licensee"), asked.format("licensees"), "Who keeps the blue slips of a closed berth?"]
        source.add("2026-10-26", {}, [ask(80 + n, question=text) for n, text in enumerate(texts)])
        pipeline.spec = make_spec(quality=RULES)
        pipeline.run()
        [found] = load_all(pipeline.settings, pipeline.store, FAMILY)
        assert found.diversity is not None and found.diversity.near_duplicates == pytest.approx(2 / 19)

    def test_ages_are_those_at_publication(self, measured: tuple[Pipeline, dict[str, Any]]) -> None:
        pipeline, made = measured
        manifest = Manifest.model_validate_json(pipeline.store.get(made["manifest_key"]))
        found = freshness(manifest, "questions", date(2026, 10, 22))
        assert (found.newest_days, found.median_days) == (3, 10)  # 20 of 30 rows came on the 12th

    def test_it_is_measured_once_and_survives_a_repeated_run(
        self, measured: tuple[Pipeline, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline, made = measured
        monkeypatch.setattr("include.data.quality_store.measure", lambda *_: pytest.fail("measured again"))
        again = pipeline.run("again")
        assert {**again, "new": True} == made

    def test_a_version_that_was_published_and_not_measured_is_measured_by_the_next_try(
        self, measured: tuple[Pipeline, dict[str, Any]]
    ) -> None:
        pipeline, made = measured
        manifest = Manifest.model_validate_json(pipeline.store.get(made["manifest_key"]))
        pipeline.store.delete(quality_key(manifest))
        pipeline.run("again")
        assert load_quality(pipeline.store, manifest) is not None

    def test_the_page_and_the_alerts_go_with_the_step(self, measured: tuple[Pipeline, dict[str, Any]]) -> None:
        pipeline, made = measured
        assert re.fullmatch(r"steps/.*/docs/quality\.html", made["quality_key"])
        page = pipeline.store.get(made["quality_key"]).decode()
        assert "questions.citations speaks of passages.passage_key" in page
        assert any("78.6% of passages.passage_key (11 of 14)" in said for said in made["alerts"])

    def test_versions_are_beside_each_other(self, pipeline: Pipeline, source: Deliveries) -> None:
        pipeline.spec = make_spec(quality=RULES)
        pipeline.run("w1", None, "2026-10-13")
        source.add("2026-10-26", {}, [ask(70, "CC-1.2")])
        pipeline.run("all")
        first, second = load_all(pipeline.settings, pipeline.store, FAMILY)
        assert (first.version, second.version) == ("1.0.0", "2.0.0")
        assert second.coverage[0].covered == 12

    def test_a_column_that_is_not_there_is_the_users_error(self, pipeline: Pipeline) -> None:
        pipeline.spec = make_spec(quality={"text": "wording"})
        with pytest.raises(UserError, match="there is no column") as caught:
            pipeline.run()
        assert "questions has question_id, question" in caught.value.hint

    def test_a_table_that_is_not_there_is_told_with_the_spec(self) -> None:
        with pytest.raises(ValueError, match="is of no table among"):
            make_spec(quality={"coverage": [{"of": "answers.x", "by": "questions.citations"}]})


class TestAccuracy:
    """Experts are the benchmark here, and what came in out of production is held against them."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        experts = Deliveries(tmp_path / "experts")
        experts.add("2026-10-12", {"AA": ["Rule 1.", "Rule 2."]}, [ask(n) for n in range(4)])
        asked = (("what of case 0", "AA-1.1"), ("What of CASE 1?!", "AA-1.2"), ("Of other things?", "AA-1.1"))
        lines = [
            {"question_id": f"live-{n}", "question": text, "answer": None, "citations": [f"AA:{cited}"]}
            for n, (text, cited) in enumerate(asked)
        ]
        (tmp_path / "live").mkdir()
        text = "\n".join(json.dumps({**line, "document_id": "AA"}) for line in lines)
        (tmp_path / "live" / "queries-2026-10-14.jsonl").write_text(text + "\n")
        return tmp_path

    def measured(self, settings: Settings, folder: Path, role: str, **rules: Any) -> Quality:
        sources = {
            "experts": {"role": role, "url": str(folder / "experts")},
            "live": {"role": "production_queries", "url": str(folder / "live"), "table": "questions"},
        }
        tables = {"passages": {"key": "passage_key"}, "questions": {"key": "question_id", "min_valid_rate": 0.5}}
        data = {"suite": "compliance_qa", "tables": tables, "sources": sources}
        pipeline = Pipeline(settings, "", make_spec(data=data, quality=rules))
        pipeline.source = None  # type: ignore[assignment]  # all declared sources
        pipeline.run()
        [found] = load_all(settings, pipeline.store, FAMILY)
        return found

    def test_rows_of_others_are_held_against_the_benchmark(self, settings: Settings, folder: Path) -> None:
        truth = {"match": "question", "label": "citations"}
        found = self.measured(settings, folder, "benchmark", truth=truth)
        assert found.accuracy == 0.5
        assert found.accuracy_why == "1 of 2 rows have the citations of experts"
        assert "accuracy" in [alert.metric for alert in alerts(found, QualitySpec())]

    def test_what_nobody_compared_is_not_invented(self, settings: Settings, folder: Path) -> None:
        found = self.measured(settings, folder, "benchmark", truth={"match": "answer", "label": "citations"})
        assert found.accuracy is None and "no row of another source has the answer" in found.accuracy_why

    def test_without_a_benchmark_there_is_none(self, settings: Settings, folder: Path) -> None:
        truth = {"match": "question", "label": "citations"}
        found = self.measured(settings, folder, "expert_annotations", truth=truth)
        assert found.accuracy is None and "no source of these rows is a benchmark" in found.accuracy_why


class TestFormulas:
    def test_evenness(self) -> None:
        assert evenness([5, 5, 5]) == pytest.approx(1.0)
        assert evenness([7]) == evenness([]) == 1.0
        assert evenness([1_000_000, 1]) < 0.001

    def test_word_pairs(self) -> None:
        assert distinct_pairs(["who pays the fee", "who pays the levy"]) == pytest.approx(4 / 6)
        assert distinct_pairs(["one"]) == 1.0
        assert distinct_pairs(["to be or", "to be or"] * 50_000) == pytest.approx(2 / 20_000)


class TestAlerts:
    def test_nothing_to_say(self) -> None:
        assert alerts(quality(), QualitySpec()) == []

    @pytest.mark.parametrize(
        ("changes", "metric", "said", "advice"),
        [
            ({"validation_rate": 0.949}, "validation_rate", "94.9% of the delivered", "often: empty_answer 3."),
            (
                {"coverage": [Coverage(of="p.k", by="q.c", covered=1, total=4, at_least=0.5, missing=["a"])]},
                "coverage of p.k", "25.0% of p.k (1 of 4)", "such as a",
            ),
            ({"accuracy": 0.5, "accuracy_why": "1 of 2 rows"}, "accuracy", "50.0% agree with", "the rows that differ"),
            ({"freshness": Freshness(newest_days=31, median_days=40)}, "newest_days", "31 days old", "still delivers"),
            ({"freshness": Freshness(newest_days=3, median_days=366)}, "median_days", "middle row", "newer examples"),
            (
                {"diversity": Diversity(column="q", measured=9, distinct=1, near_duplicates=0.11, distinct_pairs=1)},
                "near_duplicates", "11.0% of the texts in q", "split.leakage",
            ),
            (
                {
                    "diversity": Diversity(
                        column="q", measured=9, distinct=1, near_duplicates=None, why="too many", distinct_pairs=1
                    )
                },
                "near_duplicates", "too many", "one mould",
            ),
        ],
    )  # fmt: skip
    def test_each_says_what_is_wrong_and_what_to_do(
        self, changes: dict[str, Any], metric: str, said: str, advice: str
    ) -> None:
        [alert] = alerts(quality(**changes), QualitySpec())
        assert alert.metric == metric and said in alert.said and advice in alert.advice

    def test_thresholds_themselves_are_kept(self) -> None:
        edge = quality(validation_rate=0.95, freshness=Freshness(newest_days=30, median_days=365))
        assert alerts(edge, QualitySpec()) == []

    def test_the_version_before_is_named(self) -> None:
        [alert] = alerts(quality(version="1.1.0", validation_rate=0.9), QualitySpec(), quality())
        assert "it was 97.0% in 1.0.0" in alert.said


class TestPage:
    SPEC = QualitySpec(coverage=[CoverageSpec(of="p.k", by="q.c", at_least=0.5)])

    def page(self, *found: Quality) -> str:
        return render("<f>", found, alerts(found[-1], self.SPEC), self.SPEC)

    def test_it_needs_no_network_and_no_script(self) -> None:
        page = self.page(quality(), quality(version="1.1.0"))
        assert not re.search(r"https?://|<script|<link|@import|url\(", page)

    def test_plots_are_drawings_with_a_point_per_version(self) -> None:
        domains = [Domains(slice="region", values=2, evenness=0.9, largest="n", largest_share=0.6)]
        page = self.page(quality(domains=domains), quality(version="1.1.0", domains=domains, validation_rate=0.9))
        svgs = [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page)]
        assert {svg.get("aria-label") for svg in svgs} >= {"Validation rate", "Evenness of region", "Rows"}
        rate = next(svg for svg in svgs if svg.get("aria-label") == "Validation rate")
        heights = [float(point.get("cy", "")) for point in rate.iter("circle")]
        assert len(heights) == 2 and heights[0] < heights[1]  # 0.97 stands above 0.9
        limit = next(float(line.get("y1", "")) for line in rate.iter("line") if line.get("class") == "limit")
        assert heights[0] < limit < heights[1]

    def test_what_is_named_by_others_is_escaped(self) -> None:
        assert "<f>" not in self.page(quality()) and "&lt;f&gt;" in self.page(quality())

    def test_a_single_version_and_a_gap_can_be_drawn(self) -> None:
        covered = [Coverage(of="p.k", by="q.c", covered=1, total=2, at_least=0.5, missing=[])]
        page = self.page(
            quality(coverage=covered), quality(version="1.1.0"), quality(version="1.2.0", coverage=covered)
        )
        drawn = next(text for text in re.findall(r"<svg.*?</svg>", page) if 'aria-label="q.c speaks of p.k"' in text)
        assert drawn.count("<circle") == 2 and "polyline" not in drawn
        assert "n/a" in page
