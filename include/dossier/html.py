"""Pages that need nothing else: no script, no network, light and dark, narrow and wide; every value is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --muted: #59636e; --page: #fff; --panel: #f6f8fa; --line: #d1d9e0;
  --good: #1a7f37; --bad: #cf222e; --warn: #9a6700; --mark: #0969da; --bar: #0969da; --other: #afb8c1; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --muted: #9198a1; --page: #0d1117; --panel: #151b23;
  --line: #3d444d; --good: #3fb950; --bad: #ff6a62; --warn: #d29922; --mark: #4493f8; --bar: #4493f8;
  --other: #656c76; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem clamp(.75rem, 3vw, 2rem) 3rem; color: var(--text);
  background: var(--page); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; margin: .5rem 0; line-height: 1.25; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; } p { margin: .4rem 0; } a { color: var(--mark); }
nav { font-size: .9rem; } .lead { font-size: 1.1rem; font-weight: 600; } .muted { color: var(--muted); }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.good, .bad, .warn { font-weight: 600; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, monospace; overflow-wrap: anywhere; }
.box { border: 1px solid var(--line); border-left: 4px solid var(--other); border-radius: 4px; padding: .6rem .9rem;
  background: var(--panel); margin: .75rem 0; }
.box.bad { border-left-color: var(--bad); color: inherit; font-weight: 400; }
.box ul { margin: .25rem 0; padding-left: 1.2rem; }
.wide { overflow-x: auto; margin: .25rem 0 1rem; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; color: var(--muted); padding: .25rem 0; }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2rem); }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--muted); font-weight: 600; } tbody th { font-weight: 600; }
td { min-width: 3.5rem; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.long { min-width: 14rem; } td.short, code.short, tbody th { white-space: nowrap; }
dl { display: grid; grid-template-columns: minmax(7rem, 12rem) 1fr; gap: .25rem 1rem; margin: .5rem 0; }
dt { color: var(--muted); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
.bar { display: flex; height: 1.25rem; border-radius: 4px; overflow: hidden; background: var(--panel);
  border: 1px solid var(--line); } .bar span { background: var(--other); } .bar span.first { background: var(--bar); }
.bar span.full { background: var(--bad); }
details > summary { cursor: pointer; padding: .25rem 0; } svg { display: block; }
svg .span { stroke: var(--bar); stroke-width: 3; } svg .at { fill: var(--bar); }
svg .edge { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 3 2; }
footer { margin-top: 2.5rem; font-size: .85rem; color: var(--muted); border-top: 1px solid var(--line); }
"""


#: Characters of a table's cell that is kept on one line, and of one that gets more room.
_SHORT, _LONG = 30, 44
_TAG = re.compile(r"<[^>]+>")


class Html(str):
    """Text that is markup already; everything else is escaped where it is put into a page."""


def text(value: Any) -> Html:
    """`value` as text of a page; `-` for none."""
    return value if isinstance(value, Html) else Html(escape("-" if value is None else str(value)))


def joined(parts: Iterable[Any], between: str = "") -> Html:
    """Several pieces as one."""
    return Html(escape(between).join(text(part) for part in parts))


def element(name: str, content: Any, **attributes: str) -> Html:
    """`<name class="...">content</name>`; the attribute `class_` is `class`, and `aria_label` is `aria-label`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value, quote=True)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{text(content)}</{name}>")


def code(value: Any) -> Html:
    """A command, key or digest."""
    return element("code", value)


def short(digest: str | None) -> Html:
    """The start of a digest, on one line."""
    return element("code", digest[:12], class_="short") if digest else Html("-")


def link(href: str, content: Any) -> Html:
    """A link to another of these pages."""
    return element("a", content, href=href)


def paragraph(content: Any, class_: str = "") -> Html:
    return element("p", content, class_=class_) if class_ else element("p", content)


def section(name: str, title: str, *content: Any) -> Html:
    """A part of the page under a heading of its own."""
    head = element("h2", title, id=name)
    return Html(f'<section aria-labelledby="{escape(name, quote=True)}">{head}{joined(content)}</section>')


def facts(pairs: Iterable[tuple[str, Any]]) -> Html:
    """Names and values; pairs without a value are left out."""
    rows = [(name, value) for name, value in pairs if value not in (None, "", [], {})]
    return element("dl", joined(Html(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>") for name, value in rows))


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers: Iterable[int] = ()) -> Html:
    """A table with a caption; the first cell of a row names it, `numbers` are columns set to the right.

    It scrolls by itself where the page is too narrow for it, also by keyboard. Nothing where there is no row.
    """
    if not rows:
        return Html("")
    right = frozenset(numbers)

    def cell(index: int, value: Any) -> Html:
        if index == 0:
            return element("th", value, scope="row")
        if index in right:
            return element("td", value, class_="n")
        shown = text(value)
        length = len(_TAG.sub("", shown))
        if _SHORT < length < _LONG or "<svg" in shown or "<div" in shown:
            return element("td", shown)
        return element("td", shown, class_="short" if length <= _SHORT else "long")

    head = joined(
        element("th", name, scope="col", **({"class_": "n"} if index in right else {}))
        for index, name in enumerate(columns)
    )
    body = joined(element("tr", joined(cell(index, value) for index, value in enumerate(row))) for row in rows)
    whole = joined(
        [element("caption", element("span", caption)), element("thead", element("tr", head)), element("tbody", body)]
    )
    return element("div", element("table", whole), class_="wide", role="region", tabindex="0", aria_label=caption)


def folded(summary: str, content: Any) -> Html:
    """Something long that is opened by who wants it."""
    return element("details", joined([element("summary", summary), content]))


def bar(parts: Sequence[tuple[str, float, str]], label: str) -> Html:
    """Shares of a whole side by side: (name, share, class)."""
    spans = joined(
        element("span", "", class_=class_, style=f"width:{max(0.0, min(1.0, share)):.2%}", title=name)
        for name, share, class_ in parts
    )
    return element("div", spans, class_="bar", role="img", aria_label=label)


def verdict(value: str | None) -> Html:
    """A verdict in its colour; the word says the same."""
    classes = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "warn", "REJECTED": "bad", "ACCEPTED": "warn"}
    return element("span", value or "not judged", class_=classes.get(value or "", "muted"))


def page(title: str, navigation: Any, *content: Any) -> str:
    """The whole document."""
    body = joined(
        [element("nav", navigation, aria_label="Pages") if navigation else "", element("main", joined(content))]
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )
