#!/usr/bin/env python3
"""An agent that is careless with secrets: sends what it is given, everywhere where a request has room for a credential.

plant.py METADATA JWT SECRET...: asks the metadata server for a token, then sends requests through the proxy of its
surroundings with the token, the JWT and the secrets in headers, query, path, form and body. Prints each status.
"""
import json
import os
import sys
import urllib.request

import requests

QUERIES = "https://bigquery.googleapis.com/bigquery/v2/projects/acme-data/queries"
ACCOUNT = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@acme-data.iam.gserviceaccount.com"


def main() -> None:
    metadata, jwt, *secrets = sys.argv[1:]
    url = f"http://{metadata}/computeMetadata/v1/instance/service-accounts/default/token"
    asked = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    placeholder = json.load(urllib.request.urlopen(asked))["access_token"]
    print("placeholder", placeholder)
    key, secret, other = secrets[0], secrets[1], secrets[2]
    query = {"query": "SELECT SESSION_USER() AS who", "useLegacySql": False}
    bearer = {"Authorization": f"Bearer {placeholder}"}
    session = requests.Session()

    def send(verb: str, url: str, **more) -> None:
        answer = session.request(verb, url, timeout=60, **more)
        print(answer.status_code, answer.text.replace("\n", " ")[:400])

    everywhere = {
        "x-goog-api-key": key, "Cookie": f"SID={secret}", "x-goog-iam-authorization-token": jwt, "x-goog-user-project": "p",
    }
    send("POST", QUERIES, json=query, headers=bearer)
    send("POST", QUERIES, json=query, headers=bearer | everywhere)
    send("POST", f"{QUERIES}?key={key}&access_token={secret}&oauth_token={jwt}&%6bey={other}", json=query, headers=bearer)
    send("POST", QUERIES, json=query, headers={"Authorization": f"Bearer {jwt}"})
    send("POST", QUERIES, json=query, headers={"Authorization": f"Bearer {placeholder}x"})
    send("POST", QUERIES, json=query, headers={"Authorization": f"Basic {secret}"})
    send("GET", f"https://bigquery.googleapis.com/bigquery/v9/unknown?access_token={secret}&key={key}", headers=bearer)
    send("POST", f"{ACCOUNT}:generateAccessToken", json={"scope": [secret]}, headers={"Authorization": f"Bearer {jwt}"})
    form = {"grant_type": "refresh_token", "refresh_token": secret, "client_secret": other, "assertion": jwt}
    send("POST", "https://oauth2.googleapis.com/token", data=form)
    send("POST", "https://sts.googleapis.com/v1/token", data={"subject_token": jwt, "options": secret})


if __name__ == "__main__":
    os.environ.pop("NETRC", None)
    main()
