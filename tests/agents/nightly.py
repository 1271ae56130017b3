#!/usr/bin/env python3
"""An agent: a night's work with Google's Python client. Loads a file into a table, streams rows into it, then takes all rows
of another table with it, without a word of SQL.

It knows nothing of a proxy or a record; its way out and its credential come from its surroundings, as in a pod.
"""
import io
import sys

from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

BATCHES = "staging.batches"
SCHEMA = [bigquery.SchemaField("batch_id", "INT64"), bigquery.SchemaField("source", "STRING")]


def load(client: bigquery.Client) -> str:
    lines = b"".join(b'{"batch_id": %d, "source": "night-%d.csv"}\n' % (number, number) for number in range(1000))
    config = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", schema=SCHEMA)
    done = client.load_table_from_file(io.BytesIO(lines), BATCHES, job_config=config).result()
    return f"loaded {done.output_rows} rows into {BATCHES}"


def stream(client: bigquery.Client) -> str:
    rows = [{"batch_id": 2000 + number, "source": "stream"} for number in range(3)]
    refused = client.insert_rows_json(BATCHES, rows)
    return f"streamed {len(rows) - len(refused)} rows into {BATCHES}"


def export(client: bigquery.Client) -> str:
    rows = client.list_rows("billing.invoices")
    return f"took {len(list(rows))} rows out of billing.invoices"


def main() -> int:
    client = bigquery.Client()
    try:
        for step in (load, stream, export):
            print(step(client))
    except GoogleAPICallError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
