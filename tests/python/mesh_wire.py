"""The bytes of docs/mesh-protocol.md, written from that page alone: protobuf, frames, proofs, addresses, vectors.

Pure: no socket is opened here. It refuses to be fast or complete; it is the second opinion on the page.
"""

import hashlib
import hmac
import ipaddress
import re
import struct

ALPN = "peerkeep/1"
QUIC_ALPN = "peerkeep-quic/1"
REASONS = {1: "network", 2: "version", 3: "not-allowed", 4: "malformed", 5: "banned", 6: "full", 7: "stale",
           8: "duplicate", 9: "shutdown", 10: "myself", 11: "not-now"}
GOODBYES = {1: "requested", 2: "idle", 3: "replaced", 4: "duplicate", 5: "banned", 6: "dead", 7: "timeout",
            8: "cancelled", 9: "violation", 10: "resources", 11: "shutdown"}
VARINT, FIXED64, BYTES = 0, 1, 2
# Field numbers of hello and answer: name -> (number, wire type, repeated).
GREETING = {
    "network": (1, BYTES, False), "proof": (2, BYTES, False), "nonce": (3, BYTES, False),
    "version_min": (4, VARINT, False), "version_max": (5, VARINT, False), "capabilities": (6, BYTES, True),
    "listen": (7, BYTES, True), "seen": (8, BYTES, False), "epoch": (9, VARINT, False),
    "dial": (10, VARINT, False), "accepted_epoch": (11, VARINT, False), "accepted_dial": (12, VARINT, False),
    "replaces": (13, VARINT, False), "agent": (14, BYTES, False),
}
REFUSAL = {
    "reason": (1, VARINT, False), "text": (2, BYTES, False), "retry_after_ms": (3, VARINT, False),
    "newer_epoch": (4, VARINT, False), "version_min": (5, VARINT, False), "version_max": (6, VARINT, False),
}


class WireError(Exception):
    """Bytes that the page does not allow."""


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    value = 0
    for step in range(10):
        if at >= len(data):
            raise WireError("a cut varint")
        byte = data[at]
        value |= (byte & 0x7F) << (7 * step)
        at += 1
        if byte < 0x80:
            return value, at
    raise WireError("a varint of more than ten bytes")


def field(number, kind, value):
    key = varint(number << 3 | kind)
    if kind == VARINT:
        return key + varint(value)
    if kind == FIXED64:
        return key + struct.pack("<Q", value)
    return key + varint(len(value)) + value


def fields(data):
    """All fields of a message as (number, wire type, value)."""
    at, found = 0, []
    while at < len(data):
        key, at = read_varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = read_varint(data, at)
        elif kind == FIXED64:
            value, at = data[at:at + 8], at + 8
        elif kind == BYTES:
            length, at = read_varint(data, at)
            value, at = data[at:at + length], at + length
        elif kind == 5:
            value, at = data[at:at + 4], at + 4
        else:
            raise WireError(f"wire type {kind}")
        if at > len(data):
            raise WireError("a cut field")
        found.append((number, kind, int.from_bytes(value, "little") if kind == FIXED64 else value))
    return found


def encode(table, values):
    """A message from names and values, in the order of the numbers, empty ones left out."""
    out = b""
    for name, (number, kind, repeated) in sorted(table.items(), key=lambda item: item[1][0]):
        for value in values.get(name, []) if repeated else [values.get(name)]:
            if value or repeated:
                out += field(number, kind, value.encode() if isinstance(value, str) else int(value)
                             if kind == VARINT else value)
    return out


def decode(table, data):
    names = {number: (name, repeated) for name, (number, _, repeated) in table.items()}
    values = {name: [] for name, (_, _, repeated) in table.items() if repeated}
    for number, _, value in fields(data):
        if number in names:
            name, repeated = names[number]
            if repeated:
                values[name].append(value)
            else:
                values[name] = value
    return values


def frame(kind, body):
    message = field(kind, BYTES, body)
    return struct.pack(">H", len(message)) + message


def open_frame(message):
    """Kind and body of a frame's message; kind 0 when it is none that we know."""
    for number, kind, value in fields(message):
        if kind == BYTES and 1 <= number <= 5:
            return number, value
    return 0, b""


def network_id(name):
    return hashlib.sha256(b"peerkeep network\0" + name.encode()).digest()


def proof(secret, side, network, dialler, acceptor, nonce):
    label = {"dialler": b"peerkeep proof dialler\0\0", "acceptor": b"peerkeep proof acceptor\0"}[side]
    return hmac.new(secret, label + network + dialler + acceptor + nonce, hashlib.sha256).digest()


def address(host, port, quic=False):
    return ipaddress.ip_address(host).packed + struct.pack(">H", port) + (b"\1" if quic else b"")


def show_address(data):
    quic = len(data) in (7, 19) and data[-1] == 1
    data = data[:-1] if quic else data
    if len(data) not in (6, 18):
        return None
    ip = ipaddress.ip_address(data[:-2])
    host = f"[{ip}]" if ip.version == 6 else str(ip)
    return f"{host}:{struct.unpack('>H', data[-2:])[0]}" + ("/quic" if quic else "")


def preface(name):
    return bytes([len(name.encode())]) + name.encode()


def page_vectors(path):
    with open(path, encoding="utf-8") as page:
        block = re.search(r"<!-- vectors -->\n```text\n(.*?)```", page.read(), re.S).group(1)
    vectors, name = {}, None
    for line in block.splitlines():
        if line.startswith(" "):
            vectors[name] += line.strip()
        else:
            name = line
            vectors[name] = ""
    return {name: bytes.fromhex(value) for name, value in vectors.items()}


def own_vectors(public_of):
    """The page's vectors, made here; the certificate aside, whose encoding is the maker's own business."""
    dialler, acceptor = public_of(b"\x01" * 32), public_of(b"\x02" * 32)
    network, secret, nonce = network_id("lab"), b"\x07" * 32, b"\x05" * 16
    proofs = {side: proof(secret, side, network, dialler, acceptor, nonce) for side in ("dialler", "acceptor")}
    common = {"capabilities": ["exchange", "mail"], "agent": "vector/1",
              "listen": [address("192.0.2.1", 7330), address("2001:db8::1", 7330)]}
    hello = {**common, "network": network, "proof": proofs["dialler"], "nonce": nonce, "version_min": 1,
             "version_max": 2, "seen": address("198.51.100.2", 7330), "epoch": 1_790_000_000, "dial": 3,
             "accepted_epoch": 1_780_000_000, "accepted_dial": 2}
    answer = {**common, "proof": proofs["acceptor"], "version_max": 2, "seen": address("192.0.2.1", 50000),
              "epoch": 1_780_000_000, "accepted_epoch": 1_790_000_000, "accepted_dial": 3}
    refusal = {"reason": 7, "text": "an outdated greeting", "retry_after_ms": 1500, "newer_epoch": 1_790_000_001}
    ping = field(1, FIXED64, 0x0102030405060708)
    known = field(1, BYTES, b"\x09" * 32) + field(2, BYTES, address("192.0.2.9", 7330))
    return {
        "dialler_key": dialler, "acceptor_key": acceptor, "network_id": network,
        "dialler_proof": proofs["dialler"], "acceptor_proof": proofs["acceptor"],
        "hello": frame(1, encode(GREETING, hello)), "answer": frame(2, encode(GREETING, answer)),
        "confirm": frame(4, b""), "refusal": frame(3, encode(REFUSAL, refusal)),
        "ping": frame(1, ping), "pong": frame(2, ping), "goodbye": frame(3, field(1, VARINT, 11)),
        "ask": frame(4, b""), "peers": frame(5, field(1, BYTES, known)),
    }
