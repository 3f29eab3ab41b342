"""A table of trials (CSV) to the trials of each participant; what is wrong in it is named by its row.

| column | what it holds |
| --- | --- |
| stimulus | what was shown: the number of a draw, or an image file |
| response | one of two values, such as 1 and 0, yes and no, 1 and 2 (intervals), original and inverted |
| second | of a forced choice between two: the second stimulus; the response then says which was chosen |
| participant | who answered; without it all trials are of one |
| signal, interval, base | the kind of trial: a signal or none, the interval that held it, the base image of the noise |
| trial | any; not read |
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wna_jax.observers.trials import Trials
from wna_jax.runs.errors import InputError, unknown_name

COLUMNS = ("trial", "participant", "stimulus", "second", "response", "signal", "interval", "base")
_KINDS = ("signal", "interval", "base")
_POSITIVE = ("1", "yes", "y", "true", "first", "original", "present")
_NEGATIVE = ("0", "-1", "2", "no", "n", "false", "second", "inverted", "absent")
_MISSING = ("", "na", "nan", "n/a", "null")  # what R and pandas write where there is no response
_ADDED = ("1", "original")
_OPPOSITE = ("-1", "inverted")  # noise that is added or subtracted: responses 1 and -1
_NUMBER = re.compile(r"[+-]?\d+([.,]\d*)?(e[+-]?\d+)?", re.IGNORECASE)


def read_trials(
    path: str | Path,
    *,
    yes: str | None = None,
    ignore: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    base: str | None = None,
    inverted: bool = False,
    skip_unanswered: bool = False,
) -> dict[str, Trials]:
    """The trials of each participant, by name, of a table with one row per trial and the columns above.

    Responses become 1 and 0, or 1 and -1 where two stimuli were shown or a noise was added and subtracted; stimuli stay
    whole numbers or names of files, until `found_stimuli` puts the stimuli themselves there.

    Columns are separated by commas, semicolons or tabs; the first row names them, in any order. Whole numbers may be
    written as Excel, R and pandas do (1.0, 1,0 between semicolons, 1e+05). `yes` is the value of the response that
    counts as yes, or as the first; by default it is known of the usual words. Columns in `ignore`, and without a name,
    are not read; `columns`, such as {"stimulus": "stim", "response": "key"}, says what the table calls those that are
    read, and no others then are. With a `base`, only rows of that base image are read, if there is such a column. Noise
    that is added or subtracted (`inverted`, as in rcicr) has the responses 1 and -1, or original and inverted; of
    others `yes` must say which is the original. Rows without a response (empty, NA, NaN) are refused,
    or left out (`skip_unanswered`). A stimulus that a participant saw twice is refused: the noise in it would count
    twice, and the error of the map not know it.

    Raises:
        InputError: in one line with the row (the first is the columns' names): a column that is missing or unknown, a
            row of another length, no response, more than two values, an empty stimulus, one that is doubled.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"{path} is not there: expected a table of trials (CSV), one row per trial")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise UnicodeError
    except UnicodeError:
        raise InputError(f"{path} is not a text in UTF-8: save the table as CSV (UTF-8)") from None
    lines = _lines(path, text)
    if not lines or not any(lines[0][1]):
        raise InputError(f"{path} is empty: expected a first row with the columns {', '.join(COLUMNS)}")
    names = [name.lower() for name in lines[0][1]]
    if columns is not None:
        names = _renamed(path, names, columns)
    _check_columns(path, lines[0][0], names, ignore)
    rows, table = [], []
    for row, line in lines[1:]:
        if not any(line):
            continue
        if len(line) < len(names) or any(line[len(names) :]):
            many = f"{len(line)} cell{'s' * (len(line) != 1)}"
            raise InputError(f"{path}, row {row}: {many}, expected {len(names)} ({', '.join(names)})")
        rows.append(row)
        table.append(line[: len(names)])
    if not rows:
        raise InputError(f"{path} has no trials: expected one row per trial below the columns' names")
    cells = {name: np.array(column) for name, column in zip(names, zip(*table, strict=True), strict=True)}
    for name in ("stimulus", "second", "response"):
        if name in cells:
            cells[name] = np.array([_whole(cell) for cell in cells[name].tolist()])
    at = np.array(rows)
    if base is not None and "base" in cells:
        own = cells["base"] == base
        if not own.any():
            there = ", ".join(np.unique(cells["base"])[:6].tolist())
            raise InputError(f"{path} has no trials of the base image {base!r}, only of {there}: give one of these")
        cells, at = {name: column[own] for name, column in cells.items()}, at[own]
    return _by_participant(path, cells, at, yes, inverted, skip_unanswered)


def _lines(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """The cells of each line with the number of its row, as programs for tables count them."""
    kept = [f"{line}\n" for line in text.split("\n")]
    empty = next((i for i, line in enumerate(kept) if line.strip()), 0)
    said = re.fullmatch(r"\s*sep=(.)\s*", kept[empty])  # Excel's own line
    skipped = empty + bool(said)
    separator = said[1] if said else max(",;\t", key="".join(kept[skipped : skipped + 1]).count)
    reader = csv.reader(kept[skipped:], delimiter=separator, skipinitialspace=True)
    try:
        return [(row, [cell.strip() for cell in line]) for row, line in enumerate(reader, start=skipped + 1)]
    except csv.Error as error:
        at = reader.line_num + skipped
        raise InputError(f"{path}, line {at} cannot be read as CSV ({error}): save the table as CSV (UTF-8)") from None


def _whole(cell: str) -> str:
    """A whole number as its digits, however a program for tables wrote it (1.0, 1,0, 1e+05, a minus sign)."""
    plain = cell.replace("\N{MINUS SIGN}", "-")
    if not _NUMBER.fullmatch(plain) or plain.isdecimal():
        return cell
    value = float(plain.replace(",", "."))
    return str(int(value)) if value.is_integer() else cell


def _renamed(path: Path, names: list[str], columns: Mapping[str, str]) -> list[str]:
    """The house's names of the columns that are read; no name for the others."""
    of = {given.strip().lower(): name for name, given in columns.items()}
    for name, given in columns.items():
        if name not in COLUMNS:
            raise unknown_name("column", name, COLUMNS)
        if given.strip().lower() not in names:
            raise InputError(f"{path} has no column {given!r} for {name}: it has {', '.join(filter(None, names))}")
    return [of.get(name, "") for name in names]


def _check_columns(path: Path, row: int, columns: list[str], ignore: Sequence[str]) -> None:
    if not {"stimulus", "response"} & {*columns}:
        raise InputError(
            f"{path}, row {row}: {', '.join(columns[:6])}: expected the columns' names, stimulus and response among "
            "them, separated by commas, semicolons or tabs, or --columns=stimulus:NAME,response:NAME"
        )
    for name in filter(None, columns):  # one without a name, such as pandas' row numbers, is not read
        if columns.count(name) > 1:
            raise InputError(f"{path} has two columns {name!r}: expected one of each name")
        if name not in COLUMNS and name not in {each.lower() for each in ignore}:
            error = unknown_name("column", name, COLUMNS)
            raise InputError(f"{path}, row {row}: {error}, or leave it out (--ignore={name})")
    for name in ("stimulus", "response"):
        if name not in columns:
            raise InputError(
                f"{path}, row {row}: no column {name!r}, only {', '.join(filter(None, columns))}: expected stimulus "
                f"and response, or what they are called here, such as --columns=stimulus:NAME,response:NAME"
            )


def _by_participant(
    path: Path, cells: dict[str, np.ndarray], rows: np.ndarray, yes: str | None, inverted: bool, skip: bool
) -> dict[str, Trials]:
    empty = np.isin(np.char.lower(cells["response"]), _MISSING)
    if empty.any() and not skip:
        many = f" ({empty.sum():,} of {len(rows):,} rows have none)"
        raise InputError(
            f"{path}, row {rows[empty][0]}: no response{many}: fill it in, or leave such trials out (--skip_unanswered)"
        )
    cells, rows = {name: column[~empty] for name, column in cells.items()}, rows[~empty]
    if not len(rows):
        raise InputError(f"{path} has no responses: fill in the column, such as 1 for yes and 0 for no")
    for name in ("stimulus", "second", "participant"):
        if name in cells and (cells[name] == "").any():
            raise InputError(f"{path}, row {rows[cells[name] == ''][0]}: {name} is empty: expected one in each row")
    responses = _responses(path, cells["response"], rows, yes, "second" in cells or inverted)
    if inverted and yes is None:
        _check_inverted(path, cells["response"], rows)
    shown = {name: cells[name] for name in ("stimulus", "second") if name in cells}
    numbers = {name: np.char.isdecimal(column) for name, column in shown.items()}
    if all(of.all() for of in numbers.values()):
        try:
            shown = {name: column.astype(np.int64) for name, column in shown.items()}
        except (OverflowError, ValueError):
            raise InputError(f"{path}: a stimulus has a number beyond 2^63: expected numbers of draws") from None
    else:
        _check_mixed(path, shown, numbers, rows)
    varied = [name for name in _KINDS if name in cells and len(np.unique(cells[name])) > 1]
    kinds = zip(*(np.char.add(f"{name} ", cells[name]).tolist() for name in varied), strict=True)
    classes = np.array([", ".join(parts) for parts in kinds]) if varied else None
    found = {}
    participants = cells.get("participant", np.full(len(rows), "participant"))
    names, first = np.unique(participants, return_index=True)
    for who in names[np.argsort(first)].tolist():
        own = participants == who
        second = shown["second"][own] if "second" in shown else None
        kinds_of = None if classes is None else classes[own]
        found[who] = Trials(shown["stimulus"][own], responses[own], second, kinds_of, rows[own])
        _check_doubled(path, who, found[who])
    return found


def _check_inverted(path: Path, given: np.ndarray, rows: np.ndarray) -> None:
    if (other := ~np.isin(np.char.lower(given), (*_ADDED, *_OPPOSITE))).any():
        value = str(given[other][0])
        raise InputError(
            f"{path}, row {rows[other][0]}: response {value!r}: expected 1 (the original) and -1 (the inverted), or "
            f"say which is the original, such as --yes={value}"
        )


def _responses(path: Path, given: np.ndarray, rows: np.ndarray, yes: str | None, two: bool) -> np.ndarray:
    """The responses as 1 and 0, or as 1 and -1."""
    values, first = np.unique(np.char.lower(given), return_index=True)
    values, first = values[np.argsort(first)], np.sort(first)
    if len(values) > 2:
        said = ", ".join(map(repr, values[:3].tolist()))
        raise InputError(f"{path}, row {rows[first[2]]}: a third value of the response ({said}): expected two")
    positive = [value for value in values.tolist() if value == yes.lower()] if yes is not None else []
    if yes is None:
        for value, at in zip(values.tolist(), first, strict=True):
            if value not in (*_POSITIVE, *_NEGATIVE):
                raise InputError(
                    f"{path}, row {rows[at]}: response {value!r}: say which value is yes, such as --yes={value}"
                )
        positive = [value for value in values.tolist() if value in _POSITIVE]
        if len(values) == 2 and len(positive) != 1:
            said = " and ".join(map(repr, values.tolist()))
            raise InputError(f"{path}: responses are {said}: say which value is yes, such as --yes={values[0]}")
    elif not positive:
        raise InputError(
            f"{path}: no response is {yes!r}, only {', '.join(map(repr, values.tolist()))}: give another yes"
        )
    low = -1 if two or set(values.tolist()) & set(_OPPOSITE) else 0
    return np.where(np.isin(np.char.lower(given), positive), 1, low)


def _check_mixed(
    path: Path, shown: Mapping[Any, np.ndarray], numbers: Mapping[Any, np.ndarray], rows: np.ndarray
) -> None:
    """Raises an InputError if some stimuli are numbers and others are not: of the fewer of both, the first is named."""
    for name, column in shown.items():
        of = np.array(
            [_NUMBER.fullmatch(cell) is not None for cell in column.tolist()]
        )  # also those that are not whole
        if (odd := of & ~numbers[name]).any():
            given = f"{path}, row {rows[odd][0]}: {name} {str(column[odd][0])!r}"
            raise InputError(f"{given} is no whole number from 0 on: expected that of a draw, or an image file")
    every = np.concatenate([*numbers.values()])
    if not every.any():
        return
    names, at = np.concatenate([*shown.values()]), np.concatenate([rows] * len(shown))
    rare = every if every.sum() < len(every) / 2 else ~every
    what, others = ("a number", "image files") if every[rare][0] else ("a file", "numbers")
    first = np.flatnonzero(rare)[at[rare].argmin()]
    raise InputError(
        f"{path}, row {at[first]}: stimulus {str(names[first])!r} is {what}, {(~rare).sum():,} others are {others}: "
        "expected numbers of draws alone, or image files alone"
    )


def _check_doubled(path: Path, who: str, trials: Trials) -> None:
    columns = [trials.stimuli] if trials.second is None else [trials.stimuli, trials.second]
    every, rows = np.concatenate(columns), np.concatenate([trials.rows] * len(columns))
    _, first, which = np.unique(every, return_index=True, return_inverse=True)
    if (again := np.flatnonzero(first[which] != np.arange(len(every)))).size:
        at = sorted({int(rows[first[which[again[0]]]]), int(rows[again[0]])})
        where = f"row {at[0]}" if len(at) == 1 else f"rows {at[0]} and {at[1]}"
        raise InputError(f"{path}, {where}: {who} saw stimulus {every[again[0]]} twice: expected another in each trial")
