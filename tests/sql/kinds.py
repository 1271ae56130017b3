"""What the nodes of GoogleSQL's parser are called by BigQuery (`statementType`), and which table a statement is about.

Every node of a statement is in `KINDS`, or the comparison fails: nothing is guessed.
"""

from zetasql.types.proto_model.generated import ASTStatement, SchemaObjectKind

SCRIPT = "SCRIPT"

# Objects of BigQuery's alone: the parser takes them when it is told their names.
GENERIC = {"ASSIGNMENT", "BI_CAPACITY", "CAPACITY", "DATA_POLICY", "ORGANIZATION", "PROJECT", "RESERVATION"}

# Kinds of objects that are tables to BigQuery.
DROPS = {
    SchemaObjectKind.kTable: "DROP_TABLE",
    SchemaObjectKind.kExternalTable: "DROP_EXTERNAL_TABLE",
    SchemaObjectKind.kView: "DROP_VIEW",
    SchemaObjectKind.kSchema: "DROP_SCHEMA",
    SchemaObjectKind.kExternalSchema: "DROP_SCHEMA",
    SchemaObjectKind.kModel: "DROP_MODEL",
    SchemaObjectKind.kProcedure: "DROP_PROCEDURE",
    SchemaObjectKind.kConnection: "DROP_CONNECTION",
    SchemaObjectKind.kPropertyGraph: "DROP_PROPERTY_GRAPH",
}

# The last word of what rights are given on.
GRANTS = {"TABLE": "TABLE", "VIEW": "VIEW", "SCHEMA": "SCHEMA", "DATASET": "SCHEMA", "PROJECT": "PROJECT"}


class UnknownNode(Exception):
    """The parser made a node of a statement for which no kind is known here."""


def index(verb):
    def kind(node):
        if getattr(node, "is_search", False) == getattr(node, "is_vector", False):
            raise UnknownNode(f"{type(node).__name__} that is neither or both of search and vector")
        return f"{verb}_SEARCH_INDEX" if node.is_search else f"{verb}_VECTOR_INDEX"

    return kind


def altered_index(node):
    kinds = {"INDEX_SEARCH": "ALTER_SEARCH_INDEX", "INDEX_VECTOR": "ALTER_VECTOR_INDEX"}
    return one_of(kinds, node.index_type.name, node)


def generic(verb):
    def kind(node):
        name = (node.entity_type if hasattr(node, "entity_type") else node.type).id_string
        return one_of({name: f"{verb}_{name}" for name in GENERIC}, name.upper(), node)

    return kind


def granted(verb):
    return lambda node: f"{verb}_ON_{one_of(GRANTS, node.target_type_parts[-1].id_string.upper(), node)}"


def one_of(kinds, what, node):
    if what not in kinds:
        raise UnknownNode(f"{type(node).__name__} of {what}")
    return kinds[what]


# The kind of each node of a statement: a word, or a function of the node.
KINDS = {
    "ASTQueryStatement": "SELECT",
    "ASTInsertStatement": "INSERT",
    "ASTUpdateStatement": "UPDATE",
    "ASTDeleteStatement": "DELETE",
    "ASTMergeStatement": "MERGE",
    "ASTTruncateStatement": "TRUNCATE_TABLE",
    "ASTAuxLoadDataStatement": "LOAD_DATA",
    "ASTExportDataStatement": "EXPORT_DATA",
    "ASTExportMetadataStatement": "EXPORT_METADATA",
    "ASTExportModelStatement": "EXPORT_MODEL",
    "ASTCreateTableStatement": lambda node: "CREATE_TABLE_AS_SELECT" if node.query else "CREATE_TABLE",
    "ASTCreateSnapshotTableStatement": "CREATE_SNAPSHOT_TABLE",
    "ASTCreateExternalTableStatement": "CREATE_EXTERNAL_TABLE",
    "ASTCreateViewStatement": "CREATE_VIEW",
    "ASTCreateMaterializedViewStatement": "CREATE_MATERIALIZED_VIEW",
    "ASTCreateFunctionStatement": "CREATE_FUNCTION",
    "ASTCreateTableFunctionStatement": "CREATE_TABLE_FUNCTION",
    "ASTCreateProcedureStatement": "CREATE_PROCEDURE",
    "ASTCreateModelStatement": "CREATE_MODEL",
    "ASTCreateSchemaStatement": "CREATE_SCHEMA",
    "ASTCreateExternalSchemaStatement": "CREATE_EXTERNAL_SCHEMA",
    "ASTCreateConnectionStatement": "CREATE_CONNECTION",
    "ASTCreatePropertyGraphStatement": "CREATE_PROPERTY_GRAPH",
    "ASTCreateRowAccessPolicyStatement": "CREATE_ROW_ACCESS_POLICY",
    "ASTCreateIndexStatement": index("CREATE"),
    "ASTCreateEntityStatement": generic("CREATE"),
    "ASTDropStatement": lambda node: one_of(DROPS, node.schema_object_kind, node),
    "ASTDropSnapshotTableStatement": "DROP_SNAPSHOT_TABLE",
    "ASTDropMaterializedViewStatement": "DROP_MATERIALIZED_VIEW",
    "ASTDropFunctionStatement": "DROP_FUNCTION",
    "ASTDropTableFunctionStatement": "DROP_TABLE_FUNCTION",
    "ASTDropSearchIndexStatement": "DROP_SEARCH_INDEX",
    "ASTDropVectorIndexStatement": "DROP_VECTOR_INDEX",
    "ASTDropRowAccessPolicyStatement": "DROP_ROW_ACCESS_POLICY",
    "ASTDropAllRowAccessPoliciesStatement": "DROP_ROW_ACCESS_POLICY",
    "ASTDropEntityStatement": generic("DROP"),
    "ASTUndropStatement": lambda node: one_of(
        {SchemaObjectKind.kSchema: "UNDROP_SCHEMA"}, node.schema_object_kind, node
    ),
    "ASTAlterTableStatement": "ALTER_TABLE",
    "ASTAlterViewStatement": "ALTER_VIEW",
    "ASTAlterMaterializedViewStatement": "ALTER_MATERIALIZED_VIEW",
    "ASTAlterSchemaStatement": "ALTER_SCHEMA",
    "ASTAlterExternalSchemaStatement": "ALTER_SCHEMA",
    "ASTAlterModelStatement": "ALTER_MODEL",
    "ASTAlterConnectionStatement": "ALTER_CONNECTION",
    "ASTAlterIndexStatement": altered_index,
    "ASTAlterEntityStatement": generic("ALTER"),
    "ASTGrantStatement": granted("GRANT"),
    "ASTRevokeStatement": granted("REVOKE"),
    "ASTCallStatement": "CALL",
    "ASTAssertStatement": "ASSERT",
    "ASTBeginStatement": "BEGIN_TRANSACTION",
    "ASTCommitStatement": "COMMIT_TRANSACTION",
    "ASTRollbackStatement": "ROLLBACK_TRANSACTION",
    # What scripts are made of has no kind of its own.
    "ASTVariableDeclaration": SCRIPT,
    "ASTSingleAssignment": SCRIPT,
    "ASTSystemVariableAssignment": SCRIPT,
    "ASTAssignmentFromStruct": SCRIPT,
    "ASTExecuteImmediateStatement": SCRIPT,
    "ASTBeginEndBlock": SCRIPT,
    "ASTIfStatement": SCRIPT,
    "ASTCaseStatement": SCRIPT,
    "ASTWhileStatement": SCRIPT,
    "ASTRepeatStatement": SCRIPT,
    "ASTForInStatement": SCRIPT,
    "ASTBreakStatement": SCRIPT,
    "ASTContinueStatement": SCRIPT,
    "ASTRaiseStatement": SCRIPT,
    "ASTReturnStatement": SCRIPT,
}

# Where the statements that write have the name of their table. DROP's is a table for some objects only, as is GRANT's.
TARGETS = {
    "ASTInsertStatement": "target_path",
    "ASTUpdateStatement": "target_path",
    "ASTDeleteStatement": "target_path",
    "ASTMergeStatement": "target_path",
    "ASTTruncateStatement": "target_path",
    "ASTAuxLoadDataStatement": "name",
    "ASTCreateTableStatement": "name",
    "ASTCreateSnapshotTableStatement": "name",
    "ASTCreateExternalTableStatement": "name",
    "ASTCreateViewStatement": "name",
    "ASTCreateMaterializedViewStatement": "name",
    "ASTCreateRowAccessPolicyStatement": "target_path",
    "ASTCreateIndexStatement": "table_name",
    "ASTDropSnapshotTableStatement": "name",
    "ASTDropMaterializedViewStatement": "name",
    "ASTDropSearchIndexStatement": "table_name",
    "ASTDropVectorIndexStatement": "table_name",
    "ASTDropRowAccessPolicyStatement": "table_name",
    "ASTDropAllRowAccessPoliciesStatement": "table_name",
    "ASTAlterTableStatement": "path",
    "ASTAlterViewStatement": "path",
    "ASTAlterMaterializedViewStatement": "path",
    "ASTAlterIndexStatement": "table_name",
}
WRITING_KINDS = {
    "DROP_TABLE": "name",
    "DROP_EXTERNAL_TABLE": "name",
    "DROP_VIEW": "name",
    "GRANT_ON_TABLE": "target_path",
    "GRANT_ON_VIEW": "target_path",
    "REVOKE_ON_TABLE": "target_path",
    "REVOKE_ON_VIEW": "target_path",
}


def kind_of(node):
    name = type(node).__name__
    if name not in KINDS:
        raise UnknownNode(name)
    kind = KINDS[name]
    return kind if isinstance(kind, str) else kind(node)


def kind_of_script(script):
    """The kind of all statements together, after every one of them, blocks' and procedures' too, was looked up."""
    for node in nodes(script):
        if isinstance(node, ASTStatement):
            kind_of(node)
    kinds = [(kind_of(node), is_temporary(node)) for node in script.statement_list_node.statement_list]
    if len(kinds) == 1:
        return kinds[0][0]
    # BigQuery takes a query that comes behind temporary functions for a query.
    others = [kind for kind, temporary in kinds if not (temporary and kind == "CREATE_FUNCTION")]
    return "SELECT" if others == ["SELECT"] and kinds[-1][0] == "SELECT" else SCRIPT


def is_temporary(node):
    scope = getattr(node, "scope", None)
    return scope is not None and scope.name == "TEMPORARY"


# What a script's own statements are called in the list of its statements.
SCRIPTING = {
    "ASTVariableDeclaration": "DECLARE",
    "ASTSingleAssignment": "SET",
    "ASTSystemVariableAssignment": "SET",
    "ASTAssignmentFromStruct": "SET",
    "ASTExecuteImmediateStatement": "EXECUTE_IMMEDIATE",
    "ASTBreakStatement": "BREAK",
    "ASTContinueStatement": "CONTINUE",
    "ASTRaiseStatement": "RAISE",
    "ASTReturnStatement": "RETURN",
}


def listed(node):
    """The statements below the node in the order of the text: a kind, and the nodes that are its own. Those within blocks come
    one by one, and the condition of a block comes under the block's word."""
    name = type(node).__name__
    if node is None:
        return
    if name == "ASTScript":
        yield from listed(node.statement_list_node)
    elif name == "ASTStatementList":
        for statement in node.statement_list:
            yield from listed(statement)
    elif name == "ASTBeginEndBlock":
        yield from listed(node.statement_list_node)
        for handler in node.handler_list.exception_handler_list if node.handler_list else []:
            yield from listed(handler.statement_list)
    elif name == "ASTIfStatement":
        yield "IF", [node.condition]
        yield from listed(node.then_list)
        for clause in node.elseif_clauses.elseif_clauses if node.elseif_clauses else []:
            yield "ELSEIF", [clause.condition]
            yield from listed(clause.body)
        yield from listed(node.else_list)
    elif name == "ASTCaseStatement":
        word, asked = "CASE", [node.expression] if node.expression else []
        for clause in node.when_then_clauses.when_then_clauses:
            yield word, [*asked, clause.condition]
            yield from listed(clause.body)
            word, asked = "WHEN", []
        yield from listed(node.else_list)
    elif name == "ASTWhileStatement":
        yield "WHILE", [node.condition] if node.condition else []  # LOOP has none
        yield from listed(node.body)
    elif name == "ASTForInStatement":
        yield "FOR", [node.query]
        yield from listed(node.body)
    elif name == "ASTRepeatStatement":
        yield from listed(node.body)
        yield "UNTIL", [node.until_clause.condition]
    else:
        yield SCRIPTING.get(name) or kind_of(node), [node]


# Words of conditions: they are no statements when they name no table.
CONDITIONS = {"IF", "ELSEIF", "CASE", "WHEN", "WHILE", "FOR", "UNTIL"}


def written(script):
    """The names of the tables that its statements are about, as lists of their parts."""
    for node in nodes(script):
        if not isinstance(node, ASTStatement):
            continue
        field = TARGETS.get(type(node).__name__) or WRITING_KINDS.get(kind_of(node))
        if field:
            yield parts(getattr(node, field))


def referred_to(script):
    """The names of the tables that foreign keys refer to: nothing is read there."""
    for node in nodes(script):
        if type(node).__name__ == "ASTForeignKeyReference":
            yield parts(node.table_name)


def pieces(sql, script):
    """The texts in which all tables are named: the whole, and what the parser's ExtractTableNames does not open."""
    if isinstance(script, ASTStatement) or type(script).__name__ == "ASTQuery":
        yield text(sql, script)
    elif type(script).__name__ == "ASTScript":
        yield sql
    else:
        yield f"SELECT ({text(sql, script)})"  # a condition
    for node in nodes(script):
        name = type(node).__name__
        if name == "ASTCreateProcedureStatement" and node.body:
            yield text(sql, node.body)
        elif name == "ASTForInStatement":
            yield text(sql, node.query)
        elif name == "ASTExportMetadataStatement":
            yield f"SELECT * FROM {text(sql, node.name_path)}"


def text(sql, node):
    """The node's part of the text, whose places the parser counts in bytes."""
    place = node.parse_location_range
    return sql.encode()[place.start : place.end].decode()


def parts(path):
    if hasattr(path, "names"):
        return [part.id_string for part in path.names]
    raise UnknownNode(f"{type(path).__name__} in the place of a table's name")


def nodes(root):
    """The node, and all that are below it."""
    if isinstance(root, list):
        for item in root:
            yield from nodes(item)
    elif type(root).__name__.startswith("AST"):
        yield root
        for value in vars(root).values():
            yield from nodes(value)
