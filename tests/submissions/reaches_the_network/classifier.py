import ctypes
import json
import os
import socket
from pathlib import Path

import numpy as np

AIM = json.loads(Path(__file__).with_name("aim.json").read_text())


FAMILIES = {"tcp": (socket.AF_INET, socket.SOCK_STREAM), "udp": (socket.AF_INET, socket.SOCK_DGRAM)}
FAMILIES |= {"unix": (socket.AF_UNIX, socket.SOCK_STREAM), "datagrams": (socket.AF_UNIX, socket.SOCK_DGRAM)}
FAMILIES |= {"abstract": (socket.AF_UNIX, socket.SOCK_STREAM)}


def attempt(name, function, *arguments):
    try:
        function(*arguments)
    except OSError:
        return
    print("done:", name, *arguments[1:])


def connect(kind, address):
    sock = socket.socket(*kind)
    sock.settimeout(2)
    sock.connect(address)
    sock.send(b"labels")


def send_by_pair(kind, address):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.sendto(b"labels", address)


def accept(family, kind):
    sock = socket.socket(family, kind)
    sock.bind(("127.0.0.1", 0))
    sock.listen()


class Classifier:
    def fit(self, X, y):
        for name, address in AIM["sockets"].items():
            address = tuple(address) if isinstance(address, list) else address
            attempt(name, connect, FAMILIES[name], address)
            attempt(name + " by a pair", send_by_pair, socket.SOCK_DGRAM, address)
        attempt("localhost", connect, FAMILIES["tcp"], ("localhost", AIM["sockets"]["tcp"][1]))
        attempt("a name", socket.getaddrinfo, "example.org", 80)
        attempt("a public address", connect, FAMILIES["udp"], ("9.9.9.9", 53))
        attempt("a server of its own", accept, socket.AF_INET, socket.SOCK_STREAM)
        for family in range(50):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
                attempt("a socket of family", socket.socket, family, kind)
        libc = ctypes.CDLL(None)
        if libc.syscall(425, 4, ctypes.create_string_buffer(120)) >= 0:
            print("done: io_uring")

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
