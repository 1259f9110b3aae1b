#!/usr/bin/env python3
"""A second, tiny node for the mesh protocol, made from docs/mesh-protocol.md with Python's ssl module.

    mesh_peer.py vectors docs/mesh-protocol.md        make the page's vectors again and compare
    mesh_peer.py cert --seed HEX                      print the certificate (DER, hex) of an identity
    mesh_peer.py dial --to HOST:PORT [options]        connect, greet, speak
    mesh_peer.py listen [--port N] --trust DER-HEX    accept one peer, whose certificate must be known: Python's ssl
                                                      cannot ask for a certificate that it does not trust already

Everything that happens is one JSON object per line on standard output. It refuses to be a real node: one connection,
one thread, no peer table, and with --bad it misbehaves in one chosen way.
"""

import argparse
import datetime
import json
import os
import socket
import ssl
import struct
import sys
import tempfile
import time

from cryptography import x509
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

import mesh_abuse
import mesh_wire as wire

DATA, WINDOW, PING, AWAY = 0, 1, 2, 3
SYN, ACK, FIN, RST = 1, 2, 4, 8
BAD = ("cut-hello", "flip-hello", "huge-frame", "garbage", "two-hellos", "confirm-first", "old-epoch-zero", "no-proof",
       "unknown-frame", "unknown-field", "ping-flood", "wrong-pong", "no-pong", "peers-flood", "bad-control",
       "two-controls", "trickle", "nameless-streams", "streams-without-end", "bad-yamux", *mesh_abuse.BAD)


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def public_of(seed):
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return key.public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw)


def certificate(seed):
    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "second")])
    dates = [datetime.datetime(year, 1, 1) for year in (2000, 4000)]
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, *dates)
    return builder.sign(key, None)


def context(seed, server, trust):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    ctx.minimum_version = ssl.TLSVersion.TLSv1_3
    ctx.check_hostname = False
    ctx.set_alpn_protocols([wire.ALPN])
    if server:
        ctx.num_tickets = 0
        ctx.verify_mode = ssl.CERT_REQUIRED
        ctx.load_verify_locations(cadata=bytes.fromhex(trust))
    else:
        # TLS still proves that the other side holds the key of the certificate it shows; we read the key from it.
        ctx.verify_mode = ssl.CERT_NONE
    key = Ed25519PrivateKey.from_private_bytes(seed)
    with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
        pem.write(key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption()))
        pem.write(certificate(seed).public_bytes(ser.Encoding.PEM))
        pem.flush()
        ctx.load_cert_chain(pem.name)
    return ctx


def key_of(der):
    key = x509.load_der_x509_certificate(der).public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise wire.WireError("not an Ed25519 certificate")
    return key.public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw)


class Peer:
    """One connection: TLS, greeting, then a small Yamux."""

    def __init__(self, options, tls, dialled):
        self.options, self.tls, self.dialled = options, tls, dialled
        self.me, self.them = public_of(options.seed), key_of(tls.getpeercert(True))
        self.network = wire.network_id(options.network)
        self.inbox = b""
        self.streams = {}
        self.control = None
        self.sent_pings = {}
        self.over = False
        say("secure", peer=self.them.hex(), protocol=tls.selected_alpn_protocol())

    # Greeting

    def read(self, count):
        while len(self.inbox) < count:
            data = self.tls.recv(65536)
            if not data:
                raise EOFError
            self.inbox += data
        data, self.inbox = self.inbox[:count], self.inbox[count:]
        return data

    def read_frame(self):
        while True:
            kind, body = wire.open_frame(self.read(struct.unpack(">H", self.read(2))[0]))
            if kind == 3:
                refusal = wire.decode(wire.REFUSAL, body)
                say("refused", reason=wire.REASONS.get(refusal.get("reason"), "none"),
                    text=refusal.get("text", b"").decode(), retry_after_ms=refusal.get("retry_after_ms", 0),
                    newer_epoch=refusal.get("newer_epoch", 0))
                raise EOFError
            if kind:
                return kind, body

    def prove(self, side, dialler, acceptor, nonce):
        secret = self.options.secret
        if not secret or self.options.bad == "no-proof":
            return b""
        return wire.proof(secret, side, self.network, dialler, acceptor, nonce)

    def check(self, side, dialler, acceptor, nonce, proof):
        secret = self.options.secret
        if secret and wire.proof(secret, side, self.network, dialler, acceptor, nonce) != proof:
            self.refuse(1)

    def refuse(self, reason):
        say("refusing", reason=wire.REASONS[reason])
        low, high = self.options.versions
        body = {"reason": reason, "text": "refused by the second implementation", "version_min": low,
                "version_max": high}
        self.tls.sendall(wire.frame(3, wire.encode(wire.REFUSAL, body)))
        self.tls.unwrap()
        raise EOFError

    def common(self):
        host, port = self.tls.getpeername()[:2]
        return {"capabilities": ["exchange"] if self.options.versions[1] >= 2 else [], "agent": "second/1",
                "listen": [wire.address(*split(one)) for one in self.options.listen],
                "seen": wire.address(host, port), "epoch": self.options.epoch}

    def dial(self):
        options, nonce = self.options, os.urandom(16)
        hello = {**self.common(), "network": self.network, "nonce": nonce, "dial": options.dial_number,
                 "proof": self.prove("dialler", self.me, self.them, nonce), "version_min": options.versions[0],
                 "version_max": options.versions[1], "accepted_epoch": options.accepted[0],
                 "accepted_dial": options.accepted[1], "replaces": options.replaces}
        if options.bad == "old-epoch-zero":
            hello["epoch"] = 0
        self.tls.sendall(self.spoil(wire.frame(1, wire.encode(wire.GREETING, hello))))
        kind, body = self.read_frame()
        if kind != 2:
            raise wire.WireError(f"frame {kind} instead of an answer")
        answer = wire.decode(wire.GREETING, body)
        self.check("acceptor", self.me, self.them, nonce, answer.get("proof", b""))
        self.met(answer, answer["version_max"])
        self.tls.sendall(wire.frame(4, b""))

    def accept(self):
        kind, body = self.read_frame()
        if kind != 1:
            raise wire.WireError(f"frame {kind} instead of a hello")
        hello = wire.decode(wire.GREETING, body)
        if hello.get("network") != self.network:
            self.refuse(1)
        self.check("dialler", self.them, self.me, hello["nonce"], hello.get("proof", b""))
        version = min(self.options.versions[1], hello["version_max"])
        if version < max(self.options.versions[0], hello["version_min"]):
            self.refuse(2)
        if self.options.turn:
            self.refuse(self.options.turn)
        proof = self.prove("acceptor", self.them, self.me, hello["nonce"])
        answer = {**self.common(), "proof": proof, "version_max": version,
                  "accepted_epoch": hello["epoch"], "accepted_dial": hello["dial"]}
        self.tls.sendall(self.spoil(wire.frame(2, wire.encode(wire.GREETING, answer))))
        kind, _ = self.read_frame()
        if kind != 4:
            raise wire.WireError(f"frame {kind} instead of a confirm")
        self.met(hello, version)

    def met(self, greeting, version):
        self.version = version
        say("up", version=version, epoch=greeting.get("epoch", 0), dial=greeting.get("dial", 0),
            accepted=[greeting.get("accepted_epoch", 0), greeting.get("accepted_dial", 0)],
            agent=greeting.get("agent", b"").decode(), seen=wire.show_address(greeting.get("seen", b"")),
            capabilities=[one.decode() for one in greeting["capabilities"]],
            listen=[wire.show_address(one) for one in greeting["listen"]])

    def spoil(self, frame):
        bad = self.options.bad
        if bad == "cut-hello":
            self.tls.sendall(frame[:len(frame) // 2])
            self.tls.unwrap()
            raise EOFError
        if bad == "flip-hello":
            return frame[:5] + bytes([frame[5] ^ 0xFF]) + frame[6:]
        if bad == "huge-frame":
            return b"\xff\xff" + frame
        if bad == "garbage":
            return b"\x00\x10" + b"\xff" * 16
        if bad == "two-hellos":
            return frame + frame
        if bad == "confirm-first":
            return wire.frame(4, b"")
        if bad == "unknown-frame":
            return b"\x00\x02\x7a\x00" + frame
        if bad == "unknown-field":
            kind, body = wire.open_frame(frame[2:])
            return wire.frame(kind, body + wire.field(99, wire.BYTES, b"from a later version"))
        return frame

    # Yamux

    def send(self, kind, flags, stream, data=b"", length=None):
        length = len(data) if length is None else length
        self.tls.sendall(struct.pack(">BBHII", 0, kind, flags, stream, length) + data)

    def run(self):
        bad, last = self.options.bad, time.monotonic() + self.options.seconds
        if self.dialled:
            self.control = 1
            self.streams[1] = {"name": "peerkeep/control", "data": b"", "word": True}
            self.send(DATA, SYN, 1, wire.preface("peerkeep/control"))
            if bad == "two-controls":
                self.streams[3] = {"name": "peerkeep/control", "data": b"", "word": True}
                self.send(DATA, SYN, 3, wire.preface("peerkeep/control"))
        if self.options.echo and self.dialled:
            self.streams[5] = {"name": "echo", "data": b"", "word": True}
            self.send(DATA, SYN, 5, wire.preface("echo"))
        next_ping = time.monotonic() if self.options.ping_every else last
        misbehaved = False
        while not self.over and time.monotonic() < last:
            if self.control and not misbehaved:
                misbehaved = True
                if self.version >= 2:
                    self.tell(4, b"")
                self.misbehave()
            if self.control and time.monotonic() >= next_ping:
                nonce = int.from_bytes(os.urandom(8), "big")
                self.sent_pings[nonce] = time.monotonic()
                self.tell(1, wire.field(1, wire.FIXED64, nonce))
                next_ping = time.monotonic() + self.options.ping_every
            self.step(min(last, next_ping) - time.monotonic())
        if not self.over:
            if self.control and self.options.goodbye:
                self.tell(3, wire.field(1, wire.VARINT, self.options.goodbye))
            self.send(AWAY, 0, 0)
            self.tls.settimeout(2)
            self.tls.unwrap()
        say("closed")

    def misbehave(self):
        bad = self.options.bad
        mesh_abuse.misbehave(self, bad)
        if bad == "ping-flood":
            ping = wire.frame(1, wire.field(1, wire.FIXED64, 7))
            self.send(DATA, 0, self.control, ping * 300)
        if bad == "wrong-pong":
            self.tell(2, wire.field(1, wire.FIXED64, 7))
        if bad == "peers-flood":
            for block in range(40):
                known = [wire.field(1, wire.BYTES, bytes([block, one] * 16)) +
                         wire.field(2, wire.BYTES, wire.address(f"203.0.113.{one + 1}", 1000 + block))
                         for one in range(16)]
                self.tell(5, b"".join(wire.field(1, wire.BYTES, one) for one in known))
        if bad == "bad-control":
            self.send(DATA, 0, self.control, b"\xff\xff")
        if bad == "nameless-streams":
            for stream in range(101, 101 + 2 * 300, 2):
                self.send(WINDOW, SYN, stream, length=0)
        if bad == "streams-without-end":
            for stream in range(101, 101 + 2 * 300, 2):
                self.send(DATA, SYN, stream, wire.preface("echo"))
        if bad == "bad-yamux":
            self.send(9, 0, 0)
        if bad == "trickle":
            for byte in struct.pack(">BBHII", 0, DATA, 0, self.control, 64):
                self.tls.sendall(bytes([byte]))
            for _ in range(int(self.options.seconds * 10)):
                self.tls.sendall(b"\0")
                time.sleep(0.1)

    def step(self, patience):
        """Reads and handles one Yamux frame, waiting at most so long for its first byte."""
        if not self.inbox:
            self.tls.settimeout(max(patience, 0.001))
            try:
                data = self.tls.recv(65536)
            except (TimeoutError, ssl.SSLWantReadError):
                return
            if not data:
                raise EOFError
            self.inbox += data
        self.tls.settimeout(10)
        _, kind, flags, stream, length = struct.unpack(">BBHII", self.read(12))
        if kind == PING and flags & SYN:
            self.send(PING, ACK, 0, length=length)
        elif kind == AWAY:
            self.over = self.options.bad not in mesh_abuse.BAD
        elif kind == DATA:
            self.on_data(stream, flags, self.read(length))
        elif kind == WINDOW and flags & SYN:
            self.on_data(stream, flags, b"")

    def on_data(self, stream, flags, data):
        if self.options.bad == "answers-nothing" and stream != self.control:
            return
        if flags & SYN:
            self.streams[stream] = {"name": None, "data": b"", "word": False}
        if stream not in self.streams:
            return
        one = self.streams[stream]
        one["data"] += data
        if data:
            self.send(WINDOW, 0, stream, length=len(data))
        if one["word"] and one["data"]:
            word, one["data"], one["word"] = one["data"][0], one["data"][1:], False
            say("stream", name=one["name"], word=word)
            if word == 0 and one["name"] == "echo":
                self.send(DATA, 0, stream, self.options.echo.encode())
        if one["name"] is None and one["data"] and len(one["data"]) > one["data"][0]:
            length = one["data"][0]
            one["name"], one["data"] = one["data"][1:1 + length].decode(), one["data"][1 + length:]
            known = one["name"] in ("peerkeep/control", "echo")
            say("asked", name=one["name"])
            self.send(DATA, ACK if known else ACK | FIN, stream, b"\0" if known else b"\1")
            if one["name"] == "peerkeep/control":
                self.control = stream
        if one["name"] == "peerkeep/control" and not one["word"]:
            self.on_control(one)
        elif one["name"] == "echo" and one["data"]:
            say("echo", text=one["data"].decode())
            if not self.options.echo:
                self.send(DATA, 0, stream, one["data"])
            one["data"] = b""
        if flags & (FIN | RST):
            say("finished", name=one["name"])
            del self.streams[stream]

    def tell(self, kind, body):
        self.send(DATA, 0, self.control, wire.frame(kind, body))

    def on_control(self, stream):
        while len(stream["data"]) >= 2:
            length = struct.unpack(">H", stream["data"][:2])[0]
            if len(stream["data"]) < 2 + length:
                return
            kind, body = wire.open_frame(stream["data"][2:2 + length])
            stream["data"] = stream["data"][2 + length:]
            found = {number: value for number, _, value in wire.fields(body)}
            if kind == 1:
                say("ping")
                if self.options.bad != "no-pong":
                    self.tell(2, body)
            elif kind == 2:
                sent = self.sent_pings.pop(found.get(1), None)
                say("pong", known=sent is not None)
            elif kind == 3:
                say("goodbye", reason=wire.GOODBYES.get(found.get(1), "requested"))
                self.over = True
            elif kind == 4:
                say("ask")
            elif kind == 5:
                peers = [wire.fields(value) for number, _, value in wire.fields(body) if number == 1]
                say("peers", keys=[value.hex() for peer in peers for number, _, value in peer if number == 1])
            else:
                say("unknown")


def split(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("vectors").add_argument("page")
    commands.add_parser("cert").add_argument("--seed", type=bytes.fromhex, required=True)
    dial, listen = commands.add_parser("dial"), commands.add_parser("listen")
    dial.add_argument("--to", required=True)
    dial.add_argument("--expect", type=bytes.fromhex)
    listen.add_argument("--port", type=int, default=0)
    listen.add_argument("--trust", required=True, help="the dialler's certificate, DER in hex")
    listen.add_argument("--turn", type=int, default=0, help="refuse with this reason")
    for one in (dial, listen):
        pair = lambda text: tuple(int(part) for part in text.split(","))
        one.add_argument("--seed", type=bytes.fromhex, required=True)
        one.add_argument("--network", default="default")
        one.add_argument("--secret", type=str.encode, default=b"")
        one.add_argument("--versions", type=pair, default=(1, 2), help="1,1 plays the old version")
        one.add_argument("--epoch", type=int, default=int(time.time()))
        one.add_argument("--dial-number", type=int, default=1)
        one.add_argument("--accepted", type=pair, default=(0, 0))
        one.add_argument("--replaces", action="store_true")
        one.add_argument("--listen", action="append", default=[], help="HOST:PORT to tell of, may be repeated")
        one.add_argument("--ping-every", type=float, default=0)
        one.add_argument("--echo", default="", help="open an echo channel (dial) and send this")
        one.add_argument("--seconds", type=float, default=5, help="stay at most so long")
        one.add_argument("--goodbye", type=int, default=1, help="reason to leave with; 0 leaves without a word")
        one.add_argument("--bad", choices=BAD)
    return parser.parse_args()


def connect(options):
    if options.command == "dial":
        sock = socket.create_connection(split(options.to), timeout=10)
    else:
        server = socket.create_server(("127.0.0.1", options.port))
        say("listening", port=server.getsockname()[1], peer=public_of(options.seed).hex())
        server.settimeout(30)
        sock, _ = server.accept()
        sock.settimeout(10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server_side = options.command == "listen"
    ctx = context(options.seed, server_side, getattr(options, "trust", ""))
    peer = Peer(options, ctx.wrap_socket(sock, server_side=server_side), not server_side)
    if peer.tls.selected_alpn_protocol() != wire.ALPN:
        raise wire.WireError("another protocol")
    if not server_side and options.expect and options.expect != peer.them:
        raise wire.WireError("another identity")
    return peer


def main():
    options = arguments()
    if options.command == "cert":
        print(certificate(options.seed).public_bytes(ser.Encoding.DER).hex())
        return 0
    if options.command == "vectors":
        page, own = wire.page_vectors(options.page), wire.own_vectors(public_of)
        bad = [name for name, value in own.items() if page.get(name) != value]
        if key_of(page["dialler_certificate"]) != own["dialler_key"]:
            bad.append("dialler_certificate")
        say("vectors", count=len(own) + 1, different=bad)
        return 1 if bad else 0
    try:
        peer = connect(options)
        peer.dial() if options.command == "dial" else peer.accept()
        peer.run()
        return 0
    except EOFError:
        say("closed")
        return 2
    except (OSError, wire.WireError) as error:
        say("failed", error=str(error))
        return 3


if __name__ == "__main__":
    sys.exit(main())
