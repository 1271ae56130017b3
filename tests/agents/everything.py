#!/usr/bin/env python3
"""An agent that does a little of everything with Google's Python client, in a data set of its own, and prints what it was
answered, a line for each step. What an emulator can't do is an answer too.

    everything.py DATASET

It knows nothing of a proxy or a record; its way out and its token come from the environment, as in a pod.
"""
import io
import json
import os
import sys

from google.api_core.exceptions import GoogleAPICallError, NotFound
from google.cloud import bigquery
from google.oauth2.credentials import Credentials

DATASET = sys.argv[1]
client = bigquery.Client(
    project=os.environ["GOOGLE_CLOUD_PROJECT"], credentials=Credentials(os.environ["CLOUDSDK_AUTH_ACCESS_TOKEN"])
)
SCHEMA = [bigquery.SchemaField("id", "INT64"), bigquery.SchemaField("name", "STRING")]


def rows(found):
    return [dict(row) for row in found]


def make_dataset():
    return client.create_dataset(DATASET).dataset_id


def query():
    return rows(client.query_and_wait("SELECT 1 AS a, 'x' AS b"))


def job():
    return rows(client.query("SELECT 2 AS a, 'ü' AS b").result())


def parameters():
    values = [bigquery.ScalarQueryParameter("n", "INT64", 7), bigquery.ArrayQueryParameter("s", "STRING", ["p", "q"])]
    config = bigquery.QueryJobConfig(query_parameters=values, labels={"agent": "everything"})
    return rows(client.query("SELECT @n AS n, ARRAY_LENGTH(@s) AS s", job_config=config).result())


def pages():
    found = client.query("SELECT x FROM UNNEST(GENERATE_ARRAY(1, 2500)) AS x ORDER BY x").result(page_size=1000)
    return [[len(page), page[0]["x"]] for page in map(list, found.pages)]


def dry_run():
    config = bigquery.QueryJobConfig(dry_run=True)
    return client.query(f"SELECT status FROM billing.invoices", job_config=config).total_bytes_processed


def ddl():
    done = client.query(f"CREATE TABLE {DATASET}.people (id INT64, name STRING)")
    done.result()
    return done.statement_type


def dml():
    done = client.query(f"INSERT {DATASET}.people (id, name) VALUES (1, 'a'), (2, 'b')")
    done.result()
    return [done.statement_type, done.num_dml_affected_rows]


def load_resumable():
    config = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", schema=SCHEMA)
    lines = b"".join(b'{"id": %d, "name": "%s"}\n' % (number, b"v" * 50) for number in range(2000))
    done = client.load_table_from_file(io.BytesIO(lines), f"{DATASET}.people", job_config=config)
    done.result()
    return done.output_rows


def load_multipart():
    config = bigquery.LoadJobConfig(schema=SCHEMA)
    done = client.load_table_from_json([{"id": 9001, "name": "m"}], f"{DATASET}.people", job_config=config)
    done.result()
    return done.output_rows


def insert_all():
    return client.insert_rows_json(f"{DATASET}.people", [{"id": 9002, "name": "s"}, {"id": 9003, "name": "t"}])


def export_rows():
    paged = client.list_rows(f"{DATASET}.people", selected_fields=SCHEMA, page_size=1000)
    # Which rows are on which page nobody promises: only all of them at once are compared by what is in them.
    whole = client.list_rows(f"{DATASET}.people", selected_fields=SCHEMA, page_size=10000)
    return [len(list(paged)), sum(row["id"] for row in whole), whole.total_rows]


def extract():
    client.extract_table(f"{DATASET}.people", f"gs://exports/{DATASET}-*.csv").result()
    return "done"


def copy():
    client.copy_table(f"{DATASET}.people", f"{DATASET}.copied").result()
    return client.get_table(f"{DATASET}.copied").num_rows


def script():
    found = client.query(f"DECLARE n INT64 DEFAULT 3; SET n = n + 1; SELECT n AS n;").result()
    return rows(found)


def bad_sql():
    return rows(client.query_and_wait("SELEC 1"))


def no_table():
    # What is said of it depends on whether the job has failed already when it is asked about.
    try:
        return rows(client.query(f"SELECT * FROM {DATASET}.nothing").result())
    except NotFound as error:
        return type(error).__name__


def listing():
    tables = sorted(table.table_id for table in client.list_tables(DATASET))
    return [tables, DATASET in [dataset.dataset_id for dataset in client.list_datasets()]]


def remove():
    client.delete_dataset(DATASET, delete_contents=True)
    return "done"


STEPS = [
    make_dataset, query, job, parameters, pages, dry_run, ddl, dml, load_resumable, load_multipart, insert_all,
    export_rows, extract, copy, script, bad_sql, no_table, listing, remove,
]  # fmt: skip

for step in STEPS:
    try:
        print(f"{step.__name__}: {json.dumps(step(), default=str)}")
    except GoogleAPICallError as error:
        print(f"{step.__name__}: {type(error).__name__}: {json.dumps(str(error))}")
