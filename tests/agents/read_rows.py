#!/usr/bin/env python3
"""An agent: reads a table's rows over the Storage Read API, which is gRPC, and prints how many there are."""
import os
import sys

from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery_storage_v1
from google.cloud.bigquery_storage_v1.types import DataFormat, ReadSession
from google.oauth2.credentials import Credentials


def main() -> int:
    project = os.environ["GOOGLE_CLOUD_PROJECT"]
    dataset, table = sys.argv[1].split(".")
    token = os.environ.get("CLOUDSDK_AUTH_ACCESS_TOKEN")
    client = bigquery_storage_v1.BigQueryReadClient(credentials=Credentials(token) if token else None)
    wanted = ReadSession(
        table=f"projects/{project}/datasets/{dataset}/tables/{table}", data_format=DataFormat.ARROW
    )
    try:
        session = client.create_read_session(
            parent=f"projects/{project}", read_session=wanted, max_stream_count=1, retry=None
        )
        answers = client.read_rows(session.streams[0].name)
        print(sum(answer.row_count for answer in answers))
    except GoogleAPICallError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
