#!/usr/bin/env python3
"""Compares statements.txt with the parser of GoogleSQL.

    pip install -r tests/setup/zetasql.txt
    python3 check.py [statements.txt]

For each statement, the tables that the file says it reads and writes are compared with those that the parser's own
ExtractTableNames finds. The first run compiles the parser, which takes a minute. Exit 1 when fewer than 99 of 100 agree.
`make test` runs this (tests/tests/sql.rs).

Known differences, which are not counted: the parser does not name what is created, dropped, altered or granted; it does
not open the bodies of procedures, nor the query of FOR; it does not read legacy SQL; and it takes an array of a row that comes through a pipe
or out of PIVOT for a table.
"""

import pathlib
import sys

import wasmtime
from zetasql.core import wasm_client
from zetasql.core.local_service import ZetaSqlLocalService

# Below this share of agreement the check fails.
LEAST = 0.99

# The parser does not read these, and need not.
NOT_READ = {"Legacy SQL"}

# BigQuery takes these statements although the parser of GoogleSQL does not, or they are wrong on purpose.
TAKEN_BY_BIGQUERY = ("TRIM(FROM", "JOIN LATERAL c.d", "LIMIT 10, 5", "SELECT 1FROM", "AS \"a\"", ";;", "(1; DELETE")


def statements(text):
    heading, expected, lines = None, None, []
    for line in [*text.splitlines(), "## end"]:
        if line.startswith(("## ", "= ")):
            if expected is not None:
                yield heading, expected, "\n".join(lines).strip()
            expected, lines = None, []
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("= "):
            expected = [part.strip() for part in line[2:].split(" | ")]
        elif expected is not None:
            lines.append(line)


def named(tables):
    return set() if tables == "-" else {table.lstrip("~") for table in joined(tables).split()}


def joined(text):
    """The one name with spaces in it, without."""
    return text.replace("tables with spaces", "tables_with_spaces")


def keep_what_is_compiled():
    """Has wasmtime keep the compiled parser in this virtual environment, as the package itself doesn't ask for it."""
    if sys.prefix == sys.base_prefix:
        return
    settings = pathlib.Path(sys.prefix, "wasm-cache.toml")
    settings.write_text(f'[cache]\ndirectory = "{pathlib.Path(sys.prefix, "wasm-cache")}"\n', encoding="utf-8")

    def config():
        config = wasmtime.Config()
        config.cache = str(settings)
        return config

    wasm_client.Config = config


def main():
    path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("statements.txt"))
    keep_what_is_compiled()
    parser = ZetaSqlLocalService.get_instance()
    options = parser.get_language_options(maximum_features=True)
    options.supported_statement_kinds = []  # all
    agree = missed = more = refused = skipped = 0
    for heading, (kind, reads, writes), sql in statements(path.read_text(encoding="utf-8")):
        if heading in NOT_READ:
            skipped += 1
            continue
        try:
            answer = parser.extract_table_names_from_statement(sql_statement=sql, options=options, allow_script=True)
        except Exception as error:  # the package has one error for all that the parser says
            if any(part in sql for part in TAKEN_BY_BIGQUERY):
                skipped += 1
            else:
                refused += 1
                print(f"not parsed: {sql!r}\n    {error}")
            continue
        theirs = {joined(".".join(name.table_name_segment)) for name in answer.table_name}
        ours = named(reads) | named(writes)
        lost = {table for table in theirs - ours if not is_array(table, sql)}
        opened = kind not in ("CREATE_PROCEDURE", "EXPORT_METADATA") and not sql.startswith("FOR ")
        extra = named(reads) - theirs if opened else set()
        missed += bool(lost)
        more += bool(extra) and not lost
        agree += not lost and not extra
        if lost or extra:
            print(f"differs: {sql!r}\n    only the parser: {sorted(lost)}\n    only the file: {sorted(extra)}")
    compared = agree + missed + more + refused
    print(f"{agree} agree, {missed} miss a table, {more} have one more, {refused} not parsed, {skipped} skipped")
    print(f"agreement: {100 * agree / compared:.1f} % of {compared} statements")
    return 0 if agree >= LEAST * compared else 1


def is_array(table, sql):
    """An array of a row that comes through a pipe or out of PIVOT."""
    alias = table.split(".")[0]
    return ("|>" in sql or "PIVOT" in sql) and f"AS {alias}" in sql


if __name__ == "__main__":
    sys.exit(main())
