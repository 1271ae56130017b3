#!/usr/bin/env python3
"""An agent: runs one SQL statement as a job with Google's Python client (jobs.insert, then jobs.getQueryResults, as `bq`
does it) and prints its rows as JSON.

It knows nothing of a proxy or a record; its way out and its token come from its surroundings, as in a pod.
"""
import json
import os
import sys

from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery
from google.oauth2.credentials import Credentials


def main() -> int:
    # Without a token in the environment, the library finds a credential by itself, as it does in a pod.
    token = os.environ.get("CLOUDSDK_AUTH_ACCESS_TOKEN")
    client = bigquery.Client(
        project=os.environ.get("GOOGLE_CLOUD_PROJECT"),
        credentials=Credentials(token) if token else None,
    )
    try:
        # retry=None: an agent that shows what it was answered, at once.
        rows = client.query(sys.argv[1], retry=None, job_retry=None).result(retry=None, job_retry=None)
        print(json.dumps([dict(row) for row in rows], default=str))
    except GoogleAPICallError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
