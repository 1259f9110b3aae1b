"""A slow cable for tests: two TUN devices, `da` here and `db` in the namespace named second, and every packet reaches
the other end so many milliseconds late as the first argument says. It neither loses nor reorders, says `ready` when
both devices exist, and ends when its standard input does. It gives the devices no addresses. Needs root."""

import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
LARGEST_PACKET = 65536
MOST_WAITING = 10_000


def device(name):
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return end


def wait_for(late):
    """Seconds until the oldest packet is due; None when none waits."""
    return max(0.0, late[0][0] - time.monotonic()) if late else None


def deliver(late):
    while late and late[0][0] <= time.monotonic():
        _due, to, packet = late.popleft()
        try:
            os.write(to, packet)
        except OSError:
            pass  # That end is not up (yet); a cable does not care.


def collect(end, to, delay, late):
    while len(late) < MOST_WAITING:
        try:
            packet = os.read(end, LARGEST_PACKET)
        except OSError:
            return
        late.append((time.monotonic() + delay, to, packet))


def main():
    delay, namespace = float(sys.argv[1]) / 1000, sys.argv[2]
    here, there = device("da"), device("db")
    subprocess.run(["ip", "link", "set", "db", "netns", namespace], check=True)
    print("ready", flush=True)
    # All packets are late by the same time, so the order they came in is the order they are due in.
    late = collections.deque()
    while True:
        readable, _, _ = select.select([here, there, sys.stdin], [], [], wait_for(late))
        if sys.stdin in readable:
            return
        if here in readable:
            collect(here, there, delay, late)
        if there in readable:
            collect(there, here, delay, late)
        deliver(late)


main()
