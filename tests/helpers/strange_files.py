"""Things that stand where a file belongs: by name, how each is made."""

import os
import signal
import socket
from contextlib import contextmanager


def pipe(path):
    os.mkfifo(path)


def unix_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def sparse(size):
    """A file of `size` zero bytes that takes no room on the disk."""

    def make(path):
        path.touch()
        os.truncate(path, size)

    return make


@contextmanager
def at_once(seconds=20):
    """Fails what waits for a pipe's writer or reads a device without end."""

    def late(*_):
        raise AssertionError(f"still waiting after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


NO_FILES = {  # name: (how it is made, what is said of it)
    "a pipe": (pipe, "it is a pipe, no plain file"),
    "a socket": (unix_socket, "it is a socket, no plain file"),
    "a folder": (lambda path: path.mkdir(), "it is a folder, no plain file"),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, no plain file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "it is a link that leads nowhere"),
}
DEEP = {"lists": "[" * 200_000, "tables": '{"a":' * 100_000, "100 levels": "[" * 100 + "]" * 100}
