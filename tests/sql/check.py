#!/usr/bin/env python3
"""Compares statements.txt with the parser of GoogleSQL.

    pip install -r tests/setup/zetasql.txt
    python3 check.py [statements.txt]

For each statement, two things are compared: its kind with that of the node that the parser makes of it (kinds.py), and the
tables that the file says it reads and writes with those that the parser finds: what its own ExtractTableNames names, and what
the nodes of statements that write are about. Of a script, both are compared for each of its statements too. The first run compiles the parser, which takes a minute. Exit 1 when fewer than
99 of 100 agree in any of these, or when a node is not in the table of kinds. `make test` runs this (tests/tests/sql.rs).

Known differences, which are not counted: the parser does not read legacy SQL; it names the table that a foreign key refers
to, of which nothing is read; and it takes an array of a row that comes through a pipe or out of PIVOT for a table.
"""

import pathlib
import sys

import wasmtime
from zetasql.core import wasm_client
from zetasql.core.local_service import ZetaSqlLocalService

sys.dont_write_bytecode = True  # nothing beside the sources
from kinds import CONDITIONS, GENERIC, UnknownNode, kind_of_script, listed, pieces, referred_to, written

# Below this share of agreement the check fails.
LEAST = 0.99

# The parser does not read these, and need not.
NOT_READ = {"Legacy SQL"}

# BigQuery takes these statements although the parser of GoogleSQL does not, or they are wrong on purpose.
TAKEN_BY_BIGQUERY = ("TRIM(FROM", "JOIN LATERAL c.d", "LIMIT 10, 5", "SELECT 1FROM", "AS \"a\"", ";;", "(1; DELETE")


# The parser reads these only where they may stand.
NAMES_NOTHING = {"BREAK", "CONTINUE", "RETURN", "RAISE"}


class Parser:
    def __init__(self):
        keep_what_is_compiled()
        self.service = ZetaSqlLocalService.get_instance()
        self.options = self.service.get_language_options(maximum_features=True)
        self.options.supported_statement_kinds = []  # all
        self.options.supported_generic_entity_types = sorted(GENERIC)

    def script(self, sql):
        return self.service.parse(sql_statement=sql, options=self.options, allow_script=True).parsed_script

    def tables(self, sql):
        """All tables that the text names, but those that are created, dropped, altered or granted."""
        answer = self.service.extract_table_names_from_statement(
            sql_statement=sql, options=self.options, allow_script=True
        )
        return {joined(".".join(name.table_name_segment)) for name in answer.table_name}


def statements(text):
    heading, expected, parts, lines = None, None, [], []
    for line in [*text.splitlines(), "## end"]:
        if line.startswith(("## ", "= ")):
            if expected is not None:
                yield heading, expected, parts, "\n".join(lines).strip()
            expected, parts, lines = None, [], []
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("= "):
            expected = [part.strip() for part in line[2:].split(" | ")]
        elif line.startswith("+ ") and not lines:
            parts.append([part.strip() for part in line[2:].split(" | ")])
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


def tables_of(parser, sql, node):
    """The tables that the statement, or whatever the node is, writes, and all that it names."""
    target = {joined(".".join(name)) for name in written(node)}
    theirs = set(target)
    for piece in pieces(sql, node):
        theirs |= parser.tables(piece)
    theirs -= {joined(".".join(name)) for name in referred_to(node)}
    return target, {table for table in theirs if not is_array(table, sql)}


def differences(target, theirs, reads, writes):
    """Tables that one side alone has, for a person to read."""
    found = []
    for what, ours, parsers in [
        ("written", named(writes), target),
        ("read or written", named(reads) | named(writes), theirs),
        ("read, and not written", named(reads) - named(writes), theirs - target),
    ]:
        if ours != parsers:
            found.append(f"{what}: only the parser {sorted(parsers - ours)}, only the file {sorted(ours - parsers)}")
    return found


def is_array(table, sql):
    """An array of a row that comes through a pipe or out of PIVOT."""
    alias = table.split(".")[0]
    return ("|>" in sql or "PIVOT" in sql) and f"AS {alias}" in sql


def parts_of(parser, sql, script):
    """What the parser says of each statement of a script: its kind, what it writes, and all that it names."""
    parts = []
    for kind, own in listed(script):
        target, theirs = set(), set()
        for node in own if kind not in NAMES_NOTHING else []:
            writes, names = tables_of(parser, sql, node)
            target, theirs = target | writes, theirs | names
        if theirs or kind not in CONDITIONS:
            parts.append((kind, target, theirs))
    return parts


def compare_parts(of_kinds, of_tables, sql, ours, theirs):
    """One by one, in the order of the text; a list that is too short or too long differs in what it lacks."""
    for place in range(max(len(ours), len(theirs))):
        where = f"statement {place + 1} of {sql}"
        if place >= min(len(ours), len(theirs)):
            for of in (of_kinds, of_tables):
                of.count([f"only {'the file' if place < len(ours) else 'the parser'} has it"], where)
            continue
        (kind, reads, writes), (their_kind, target, names) = ours[place], theirs[place]
        of_kinds.count([] if their_kind == kind else [f"the parser says {their_kind}, the file {kind}"], where)
        of_tables.count(differences(target, names, reads, writes), where)


class Agreement:
    def __init__(self, of):
        self.of, self.agree, self.compared = of, 0, 0

    def count(self, differs, sql):
        self.compared += 1
        self.agree += not differs
        for difference in differs:
            print(f"{self.of} differ: {sql!r}\n    {difference}")

    def holds(self):
        print(f"agreement of {self.of}: {100 * self.agree / self.compared:.1f} % of {self.compared} statements")
        return self.agree >= LEAST * self.compared


def main():
    path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("statements.txt"))
    parser = Parser()
    kinds, tables = Agreement("kinds"), Agreement("tables")
    part_kinds, part_tables = Agreement("kinds within scripts"), Agreement("tables within scripts")
    compared, expected_kinds, skipped, unknown = set(), set(), 0, set()
    for heading, (kind, reads, writes), parts, sql in statements(path.read_text(encoding="utf-8")):
        expected_kinds.add(kind)
        if heading in NOT_READ:
            skipped += 1
            continue
        try:
            script = parser.script(sql)
        except Exception as error:  # the package has one error for all that the parser says
            if any(part in sql for part in TAKEN_BY_BIGQUERY):
                skipped += 1
            else:
                kinds.count([f"not parsed: {error}"], sql)
                tables.count(["not parsed"], sql)
            continue
        try:
            theirs = kind_of_script(script)
        except UnknownNode as node:
            unknown.add(str(node))
            continue
        compared.add(kind)
        kinds.count([] if theirs == kind else [f"the parser says {theirs}, the file {kind}"], sql)
        tables.count(differences(*tables_of(parser, sql, script), reads, writes), sql)
        said = parts_of(parser, sql, script)
        if len(said) > 1 or [part[0] for part in said] not in ([], [kind]):
            compare_parts(part_kinds, part_tables, sql, parts, said)
        elif parts:
            compare_parts(part_kinds, part_tables, sql, parts, [])
    for node in sorted(unknown):
        print(f"no kind is known for {node}: add it to kinds.py")
    for kind in sorted(expected_kinds - compared):
        print(f"no statement of kind {kind} was compared")
    print(f"{len(compared)} kinds, {skipped} statements that the parser does not read")
    holds = [kinds.holds(), tables.holds(), part_kinds.holds(), part_tables.holds(), not unknown, expected_kinds == compared]
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
