#!/usr/bin/env python3
"""An agent that would rather not be recorded: tries one way, and says what came of it.

    go_round.py connect ADDRESS PORT            a TCP connection
    go_round.py http ADDRESS PORT HOST          plain HTTP
    go_round.py tls ADDRESS PORT SNI HOST       HTTPS; SNI "-" is none; any certificate will do
    go_round.py tunnel ADDRESS PORT TARGET      HTTP CONNECT
    go_round.py uid NUMBER                      become another user
    go_round.py read FILE                       read a file
    go_round.py rules                           drop the rules of the network

Prints "answered: STATUS LINE" or "done", and exits 0, if it got through; "refused: REASON", and exits 1, if not.
"""
import os
import socket
import ssl
import subprocess
import sys

REQUEST = "GET /bigquery/v2/projects/acme-data/datasets HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"


def open_connection(address, port):
    return socket.create_connection((address, int(port)), timeout=10)


def ask(stream, host):
    stream.sendall(REQUEST.format(host).encode())
    return status(stream)


def status(stream):
    line = stream.recv(4096).split(b"\r\n")[0].decode("latin-1")
    if not line.startswith("HTTP/"):
        raise ConnectionError(f"no answer in HTTP: {line!r}")
    return "answered: " + line


def connect(address, port):
    open_connection(address, port).close()
    return "done"


def http(address, port, host):
    with open_connection(address, port) as stream:
        return ask(stream, host)


def tls(address, port, sni, host):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with open_connection(address, port) as stream:
        with context.wrap_socket(stream, server_hostname=None if sni == "-" else sni) as stream:
            return ask(stream, host)


def tunnel(address, port, target):
    with open_connection(address, port) as stream:
        stream.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        print(status(stream))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(stream, server_hostname="bigquery.googleapis.com") as stream:
            return ask(stream, "bigquery.googleapis.com")


def uid(number):
    os.setuid(int(number))
    return "done"


def read(path):
    with open(path, "rb") as file:
        file.read(1)
    return "done"


def rules():
    subprocess.run(["iptables", "-t", "nat", "-F", "OUTPUT"], check=True, capture_output=True)
    return "done"


WAYS = {way.__name__: way for way in (connect, http, tls, tunnel, uid, read, rules)}

if __name__ == "__main__":
    try:
        print(WAYS[sys.argv[1]](*sys.argv[2:]))
    except (OSError, subprocess.SubprocessError) as error:
        print(f"refused: {error}")
        sys.exit(1)
