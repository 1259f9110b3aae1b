#!/usr/bin/env python3
"""The second node over QUIC: docs/mesh-protocol.md on aioquic, which shares no code with ours.

    mesh_quic.py dial --to HOST:PORT --seed HEX [options]     connect, greet, ping, echo
    mesh_quic.py listen --seed HEX [options]                  accept one peer, greet, answer pings, echo

Everything that happens is one JSON object per line on standard output. It refuses to be a real node: one connection,
and with --bad it misbehaves in one chosen way.
"""

import argparse
import asyncio
import os
import struct
import sys
import time

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamDataReceived
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
import ssl

import mesh_wire as wire
from mesh_peer import certificate, key_of, public_of, say, split

BAD = ("alpn", "no-certificate")


def configuration(options, client):
    alpn = "h3" if options.bad == "alpn" else wire.QUIC_ALPN
    conf = QuicConfiguration(is_client=client, alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE)
    if options.bad != "no-certificate":
        conf.certificate = certificate(options.seed)
        conf.private_key = Ed25519PrivateKey.from_private_bytes(options.seed)
    return conf


class Node(QuicConnectionProtocol):
    """One connection: the greeting on stream 0, which then is the control channel, and an echo channel."""

    options = None
    done = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.dialled = self._quic.configuration.is_client
        self.data, self.words, self.names = {}, set(), {}
        self.is_up, self.nonce, self.ping = False, os.urandom(16), int.from_bytes(os.urandom(8), "big")
        self.me, self.network = public_of(self.options.seed), wire.network_id(self.options.network)

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.on_secure(event.alpn_protocol)
        elif isinstance(event, StreamDataReceived):
            self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
            while self.read(event.stream_id):
                pass
            if event.end_stream and event.stream_id == 0:
                self._quic.close()
        elif isinstance(event, ConnectionTerminated):
            say("closed", code=event.error_code, reason=event.reason_phrase)
            if not self.done.done():
                self.done.set_result(None)
        self.transmit()

    def on_secure(self, protocol):
        cert = self._quic.tls._peer_certificate
        self.them = key_of(cert.public_bytes(ser.Encoding.DER)) if cert else b""
        say("secure", peer=self.them.hex(), protocol=protocol)
        if self.dialled:
            options, dialler, acceptor = self.options, self.me, self.them
            hello = {**self.common(), "network": self.network, "nonce": self.nonce, "dial": 1,
                     "proof": self.prove("dialler", dialler, acceptor, self.nonce), "version_min": 1, "version_max": 2}
            self.write(0, wire.frame(1, wire.encode(wire.GREETING, hello)))

    def prove(self, side, dialler, acceptor, nonce):
        secret = self.options.secret
        return wire.proof(secret, side, self.network, dialler, acceptor, nonce) if secret else b""

    def common(self):
        return {"capabilities": [], "agent": "second-quic/1", "listen": [wire.address("192.0.2.1", 7330, quic=True)],
                "seen": wire.address("127.0.0.1", 9, quic=True), "epoch": int(time.time())}

    def write(self, stream, data, end=False):
        self._quic.send_stream_data(stream, data, end)

    def take_frame(self, stream):
        data = self.data[stream]
        if len(data) < 2 or len(data) < 2 + struct.unpack(">H", data[:2])[0]:
            return None
        length = 2 + struct.unpack(">H", data[:2])[0]
        self.data[stream] = data[length:]
        return wire.open_frame(data[2:length])

    def read(self, stream):
        """Handles one frame or word of a stream; whether there was one."""
        if stream == 0:
            frame = self.take_frame(0)
            if frame is None:
                return False
            self.on_control(*frame) if self.is_up else self.on_greeting(*frame)
            return True
        return self.read_channel(stream)

    def on_greeting(self, kind, body):
        if kind == 3:
            refusal = wire.decode(wire.REFUSAL, body)
            say("refused", reason=wire.REASONS.get(refusal.get("reason"), "none"))
            self._quic.close()
        elif kind == 2:
            answer = wire.decode(wire.GREETING, body)
            if self.options.secret and answer["proof"] != self.prove("acceptor", self.me, self.them, self.nonce):
                raise wire.WireError("a proof that does not hold")
            self.write(0, wire.frame(4, b""))
            self.up(answer)
            self.write(0, wire.frame(1, wire.field(1, wire.FIXED64, self.ping)))
            self.write(4, wire.preface("echo"))
        elif kind == 1:
            hello = wire.decode(wire.GREETING, body)
            if hello["network"] != self.network:
                self.write(0, wire.frame(3, wire.encode(wire.REFUSAL, {"reason": 1, "text": "another network"})), True)
                return
            proof = self.prove("acceptor", self.them, self.me, hello["nonce"])
            answer = {**self.common(), "proof": proof, "version_max": 2, "accepted_epoch": hello["epoch"],
                      "accepted_dial": hello["dial"]}
            self.hello = hello
            self.write(0, wire.frame(2, wire.encode(wire.GREETING, answer)))
        elif kind == 4:
            self.up(self.hello)

    def up(self, greeting):
        self.is_up = True
        say("up", epoch=greeting.get("epoch", 0), agent=greeting.get("agent", b"").decode(),
            seen=wire.show_address(greeting.get("seen", b"")),
            listen=[wire.show_address(one) for one in greeting["listen"]])

    def on_control(self, kind, body):
        found = {number: value for number, _, value in wire.fields(body)}
        if kind == 1:
            say("ping")
            self.write(0, wire.frame(2, body))
        elif kind == 2:
            say("pong", known=found.get(1) == self.ping)
        elif kind == 3:
            say("goodbye", reason=wire.GOODBYES.get(found.get(1), "requested"))
            self._quic.close()

    def read_channel(self, stream):
        data = self.data[stream]
        if not data:
            return False
        ours = (stream % 4 == 0) == self.dialled
        if stream not in self.words:
            if ours:
                self.words.add(stream)
                say("stream", word=data[0])
                self.data[stream] = data[1:]
                if data[0] == 0:
                    self.write(stream, self.options.echo.encode())
            elif len(data) > data[0]:
                self.words.add(stream)
                say("asked", name=data[1:1 + data[0]].decode())
                self.data[stream] = data[1 + data[0]:]
                self.write(stream, b"\0")
            return bool(self.data[stream])
        say("echo", text=data.decode())
        self.data[stream] = b""
        if not ours:
            self.write(stream, data)
        return False


async def run(options):
    Node.options, Node.done = options, asyncio.get_running_loop().create_future()
    if options.command == "dial":
        host, port = split(options.to)
        try:
            async with connect(host, port, configuration=configuration(options, True), create_protocol=Node):
                await asyncio.wait_for(Node.done, options.seconds)
        except (ConnectionError, asyncio.TimeoutError) as error:
            say("ended", why=type(error).__name__)
        return
    begin = QuicConnection._initialize

    def initialize(connection, peer_cid):
        begin(connection, peer_cid)
        # The library can ask for a client's certificate and has no setting for it.
        connection.tls._request_client_certificate = True

    QuicConnection._initialize = initialize
    server = await serve("127.0.0.1", 0, configuration=configuration(options, False), create_protocol=Node)
    port = server._transport.get_extra_info("sockname")[1]
    say("listening", port=port, peer=public_of(options.seed).hex())
    try:
        await asyncio.wait_for(Node.done, options.seconds)
    except asyncio.TimeoutError:
        say("ended", why="time")
    server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("dial").add_argument("--to", required=True)
    commands.add_parser("listen")
    for one in commands.choices.values():
        one.add_argument("--seed", type=bytes.fromhex, required=True)
        one.add_argument("--network", default="default")
        one.add_argument("--secret", type=str.encode, default=b"")
        one.add_argument("--echo", default="echo over another QUIC")
        one.add_argument("--seconds", type=float, default=10)
        one.add_argument("--bad", choices=BAD)
    asyncio.run(run(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
