"""The tables of results/*.md, written from results/*.toml, and these pages among those of the site.

  python docs/results.py    # after a change of results/*.toml

On results/NAME.md, what stands between `<!-- rows: SECTION -->` and `<!-- end -->` is made of results/NAME.toml, of its
rows `[SECTION.ROW]`: a table, commands and notes. Between `<!-- status -->` and `<!-- end -->` is a line for each row
of all pages. The rest of a page is text. mkdocs calls `on_files`, which adds the pages and their pictures to the site.
"""

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parent.parent / "results"
STATUSES = {
    "better": "better than published",
    "met": "as published",
    "below": "lower than published",
    "differs": "otherwise not as published",
    "not comparable": "another quantity, or one that varies with the trained network",
    "new": "nothing published to compare with",
    "not run": "not run",
}
MARKED = re.compile(r"(<!-- (?:rows: (\w+)|status) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        what: What was done, in a few words.
        published: The published figure and, in brackets, whose it is.
        ours: Our numbers as they are to be read: `value` and perhaps `of` (what it is of), `low` and `high` (the 95%
            interval, or the range that `n` names) or `error`, `unit`, `best = true` (in bold); or a text.
        status: One of STATUSES.
        commands: What to run for it, as it stands.
        ids: Of capabilities in the reference projects.
        n: Samples, images, seeds.
        why: The status in about five more words.
        pictures: Files in results/, with what each shows.
        hardware: Times, and the hardware where it is not that of results/README.md.
        note: What else was found, and why numbers differ: Markdown that stands below the table.
    """

    what: str
    published: str
    ours: list[str | dict[str, Any]]
    status: str
    commands: list[str]
    ids: list[str] = field(default_factory=list)
    n: str = ""
    why: str = ""
    pictures: dict[str, str] = field(default_factory=dict)
    hardware: str = ""
    note: str = ""

    @property
    def label(self) -> str:
        """The ids and what was done."""
        return f"{', '.join(self.ids)}: {self.what}" if self.ids else self.what


class Page(NamedTuple):
    """A page as it stands, and its rows by section."""

    text: str
    rows: dict[str, list[Row]]


def read() -> dict[str, Page]:
    """All pages, by the names of their files."""
    pages = {}
    for path in sorted(FOLDER.glob("*.md")):
        data = path.with_suffix(".toml")
        sections = tomllib.loads(data.read_text()) if data.exists() else {}
        rows = {section: [Row(**row) for row in named.values()] for section, named in sections.items()}
        pages[path.name] = Page(path.read_text(), rows)
    return pages


def written(pages: dict[str, Page]) -> dict[str, str]:
    """The text of all pages with their tables made anew."""

    def made(page: Page) -> str:
        def block(found: re.Match[str]) -> str:
            content = section(page.rows[found[2]]) if found[2] else status(pages)
            return f"{found[1]}\n{content}\n{found[3]}"

        return MARKED.sub(block, page.text)

    return {name: made(page) for name, page in pages.items()}


def section(rows: list[Row]) -> str:
    """What stands for the rows of a section."""
    return table(rows) + commands(rows) + notes(rows)


def table(rows: list[Row]) -> str:
    """One line per row: what was published, and ours. A column that would be empty is left out."""
    columns = {
        "id": [", ".join(row.ids) for row in rows],
        "what": [row.what for row in rows],
        "published": [row.published for row in rows],
        "ours": ["<br>".join(map(measured, row.ours)) for row in rows],
        "n": [row.n for row in rows],
        "pictures": [", ".join(f"[{shows}]({file})" for file, shows in row.pictures.items()) for row in rows],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    lines = [list(shown), ["---"] * len(shown), *zip(*shown.values(), strict=True)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def measured(item: str | dict[str, Any]) -> str:
    """A number with what it is of, its interval or error, and its unit."""
    if isinstance(item, str):
        return item
    number = f"**{item['value']}**" if item.get("best") else item["value"]
    interval = f" ({item['low']} to {item['high']})" if "low" in item else ""
    error = f" ± {item['error']}" if "error" in item else ""
    return f"{item.get('of', '')} {number}{interval}{error}{item.get('unit', '')}".strip()


def commands(rows: list[Row]) -> str:
    """The commands of all rows as one block; rows of the same commands share them."""
    users: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row.commands:
            users.setdefault(tuple(row.commands), []).append(row.label)
    lines = [f"# {'; '.join(labels)}\n" + "\n".join(given) for given, labels in users.items()]
    return "\n```sh\n" + "\n\n".join(lines) + "\n```\n" if lines else ""


def notes(rows: list[Row]) -> str:
    """What else is known of each row: hardware and note."""
    written = []
    for row in rows:
        text = "\n\n".join(part for part in (row.note.strip(), row.hardware and f"*Run:* {row.hardware}") if part)
        if text:
            written.append(f"\n**{row.label}.**{' ' if text[0] not in '-|' else chr(10) * 2}{text}\n")
    return "".join(written)


def status(pages: dict[str, Page]) -> str:
    """How each row ended, in the order of the ids, with a link to its section."""
    listed = [
        (row, f"{name}#{heading}")
        for name, page in pages.items()
        for section, heading in headings(page.text).items()
        for row in page.rows[section]
    ]
    listed.sort(key=lambda item: order(item[0]))
    counts = Counter(row.status for row, _ in listed)
    ended = ", ".join(f"{counts[status]} {status} ({said})" for status, said in STATUSES.items() if counts[status])
    lines = [f"{len(listed)} rows: {ended}.\n"]
    if below := [f"- [{row.label}]({place}): {row.why}" for row, place in listed if row.status == "below"]:
        lines += ["Below what was published:\n", *below, ""]
    lines += ["| id | what | status |", "| --- | --- | --- |"]
    for row, place in listed:
        lines.append(f"| {', '.join(row.ids)} | [{row.what}]({place}) | {row.status}{row.why and f': {row.why}'} |")
    return "\n".join(lines) + "\n"


def headings(text: str) -> dict[str, str]:
    """The address of the heading above each section of rows."""
    found, heading = {}, ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = address(line)
        elif marker := re.match(r"<!-- rows: (\w+) -->", line):
            found[marker[1]] = heading
    return found


def address(heading: str) -> str:
    """Where a link to a heading points, on GitHub and on the site."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower()).replace(" ", "-")


def order(row: Row) -> tuple[bool, bool, int]:
    """F1 to F55, then N1 to N12, then what has no id."""
    first = row.ids[0] if row.ids else "X0"
    return not row.ids, first[0] != "F", int(first[1:])


def on_files(files: Any, config: Any) -> Any:
    """Adds results/, its pages and pictures, to the files of mkdocs."""
    from mkdocs.structure.files import File

    for path in sorted(FOLDER.iterdir()):
        if path.suffix in (".md", ".png", ".jpg"):
            files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


if __name__ == "__main__":
    for name, text in written(read()).items():
        (FOLDER / name).write_text(text)
