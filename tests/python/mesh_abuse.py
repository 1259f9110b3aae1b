"""Frames that no honest Yamux peer sends, for mesh_peer.py."""

import struct

import mesh_wire as wire

DATA, WINDOW, SYN, RST = 0, 1, 1, 8
LARGEST = 2**32 - 1
BAD = ("window-wrap", "window-wrap-syn", "beyond-window", "beyond-first-window", "frame-of-4-gib", "stream-zero",
       "wrong-parity", "id-twice", "too-many-streams", "unknown-streams", "reset-flood", "channel-reset-flood",
       "answers-nothing")


def head(kind, flags, stream, length):
    return struct.pack(">BBHII", 0, kind, flags, stream, length)


def misbehave(peer, bad):
    if bad not in BAD:
        return
    echo = wire.preface("echo")
    if bad == "window-wrap":
        peer.send(WINDOW, 0, peer.control, length=LARGEST)
        peer.send(WINDOW, 0, peer.control, length=LARGEST)
    if bad == "window-wrap-syn":
        peer.send(WINDOW, SYN, 101, length=LARGEST)
    if bad == "beyond-window":
        peer.send(DATA, SYN, 101, echo)
        for _ in range(17):
            peer.send(DATA, 0, 101, bytes(16 * 1024))
    if bad == "beyond-first-window":
        peer.send(DATA, SYN, 101, bytes(257 * 1024))
    if bad == "frame-of-4-gib":
        peer.send(DATA, 0, peer.control, length=LARGEST)
    if bad == "stream-zero":
        peer.send(DATA, SYN, 0, echo)
    if bad == "wrong-parity":
        peer.send(DATA, SYN, 102, echo)
    if bad == "id-twice":
        peer.send(DATA, SYN, peer.control, echo)
    if bad == "too-many-streams":
        many = range(101, 101 + 2 * 3000, 2)
        peer.tls.sendall(b"".join(head(DATA, SYN, stream, len(echo)) + echo for stream in many))
    if bad == "unknown-streams":
        for stream in range(101, 101 + 2 * 5000, 2):
            peer.tls.sendall(head(WINDOW, 0, stream, LARGEST) + head(DATA, 0, stream, 3) + b"???" +
                             head(DATA, RST, stream, 0))
    if bad == "reset-flood":
        for stream in range(101, 101 + 2 * 5000, 2):
            peer.tls.sendall(head(WINDOW, SYN, stream, 0) + head(WINDOW, RST, stream, 0))
    if bad == "channel-reset-flood":
        for stream in range(101, 101 + 2 * 5000, 2):
            peer.tls.sendall(head(DATA, SYN, stream, len(echo)) + echo + head(DATA, RST, stream, 0))
