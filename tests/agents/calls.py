#!/usr/bin/env python3
"""An agent without a client library, that never tries again: calls of jobs.query over kept-alive connections. Prints a line
for each call: {"status": ..., "reason": ...} of the answer, or {"error": ...} when there was none, or not a whole one.

    calls.py COUNT SQL [--at-once N] [--timeout SECONDS] [--pad BYTES] [--leave]

It knows nothing of a proxy or a record, and trusts what its surroundings tell it to (SSL_CERT_FILE).
"""
import argparse
import http.client
import json
import os
import ssl
import threading

HOST = "bigquery.googleapis.com"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int, help="calls of each connection, one after another")
    parser.add_argument("sql")
    parser.add_argument("--at-once", type=int, default=1, help="connections")
    parser.add_argument("--timeout", type=float, default=90, help="seconds without a byte after which it goes away")
    parser.add_argument("--pad", type=int, default=0, help="bytes of comment behind the SQL")
    parser.add_argument("--leave", action="store_true", help="goes away after the first bytes of an answer")
    return parser.parse_args()


def reason(text):
    error = json.loads(text).get("error")
    return error and error["errors"][0]["reason"]


def call(connection, asked):
    sql = asked.sql + ("" if asked.pad == 0 else " -- " + "x" * asked.pad)
    headers = {"Authorization": "Bearer " + os.environ["CLOUDSDK_AUTH_ACCESS_TOKEN"], "Content-Type": "application/json"}
    path = "/bigquery/v2/projects/" + os.environ["GOOGLE_CLOUD_PROJECT"] + "/queries"
    try:
        connection.request("POST", path, json.dumps({"query": sql, "useLegacySql": False}), headers)
        answer = connection.getresponse()
        if asked.leave:
            answer.read(1)
            connection.close()
            return {"error": "left"}
        return {"status": answer.status, "reason": reason(answer.read())}
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()  # the next call opens another
        return {"error": type(error).__name__}


def main():
    asked = arguments()
    context = ssl.create_default_context()

    def calls():
        connection = http.client.HTTPSConnection(HOST, timeout=asked.timeout, context=context)
        for _ in range(asked.count):
            print(json.dumps(call(connection, asked)) + "\n", end="", flush=True)

    threads = [threading.Thread(target=calls) for _ in range(asked.at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
