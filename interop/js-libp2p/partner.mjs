// A js-libp2p node that tests start: it listens, dials, pings and echoes, as told by lines. The protocol of lines, the same
// as the rust-libp2p partner's, is in README.md. It refuses to outlive its standard input.
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

// libp2p 3 is written for Node 22; this is all that Node 20 lacks of it.
if (!Promise.withResolvers) {
  Promise.withResolvers = function () {
    let resolve, reject
    const promise = new this((a, b) => { resolve = a; reject = b })
    return { promise, resolve, reject }
  }
}

const { createLibp2p } = await import('libp2p')
const { generateKeyPair, generateKeyPairFromSeed } = await import('@libp2p/crypto/keys')
const { peerIdFromPrivateKey, peerIdFromString } = await import('@libp2p/peer-id')
const { multiaddr } = await import('@multiformats/multiaddr')

const { values: options } = parseArgs({
  options: {
    tcp: { type: 'string' },
    quic: { type: 'string' },
    seed: { type: 'string' },
    key: { type: 'string', default: 'ed25519' },
    security: { type: 'string', default: 'noise,tls' },
    'wrong-identity': { type: 'boolean', default: false }
  }
})

const ECHO = '/echo/1.0.0'
const MUTE = '/mute/1.0.0'
const RESET = '/reset/1.0.0'
const STREAMS = { maxInboundStreams: 4096, maxOutboundStreams: 4096 }

const say = (event, rest) => process.stdout.write(JSON.stringify({ event, ...rest }) + '\n')

async function key () {
  if (options.seed !== undefined) {
    const seed = new Uint8Array(32)
    new DataView(seed.buffer).setBigUint64(0, BigInt(options.seed))
    return generateKeyPairFromSeed('Ed25519', seed)
  }
  return generateKeyPair({ ed25519: 'Ed25519', secp256k1: 'secp256k1', ecdsa: 'ECDSA', rsa: 'RSA' }[options.key])
}

async function securities () {
  const makers = {
    noise: async () => (await import('@chainsafe/libp2p-noise')).noise(),
    tls: async () => (await import('@libp2p/tls')).tls()
  }
  return Promise.all(options.security.split(',').map((name) => makers[name]()))
}

async function node (privateKey) {
  const transports = [(await import('@libp2p/tcp')).tcp()]
  const listen = []
  if (options.tcp !== undefined) {
    listen.push(`/ip4/127.0.0.1/tcp/${options.tcp}`)
  }
  try {
    transports.push((await import('@chainsafe/libp2p-quic')).quic())
  } catch (error) {
    if (options.quic !== undefined) throw error
  }
  if (options.quic !== undefined) {
    listen.push(`/ip4/127.0.0.1/udp/${options.quic}/quic-v1`)
  }
  return createLibp2p({
    privateKey,
    addresses: { listen },
    transports,
    connectionEncrypters: await securities(),
    streamMuxers: [(await import('@chainsafe/libp2p-yamux')).yamux()],
    connectionGater: { denyDialMultiaddr: () => false },
    services: {
      identify: (await import('@libp2p/identify')).identify(),
      ping: (await import('@libp2p/ping')).ping()
    }
  })
}

async function echo (stream) {
  for await (const bytes of stream) {
    if (!stream.send(bytes)) await stream.onDrain()
  }
  await stream.close()
}

const privateKey = await key()
const own = await node(privateKey)

own.addEventListener('connection:open', ({ detail: conn }) => {
  say('connected', {
    conn: conn.id,
    peer: conn.remotePeer.toString(),
    direction: conn.direction,
    addr: conn.remoteAddr.toString(),
    held: own.getConnections(conn.remotePeer).length
  })
})
own.addEventListener('connection:close', ({ detail: conn }) => {
  const left = own.getConnections(conn.remotePeer).filter((other) => other.id !== conn.id && other.status === 'open')
  say('disconnected', { conn: conn.id, peer: conn.remotePeer.toString(), held: left.length })
})
own.addEventListener('peer:identify', ({ detail }) => {
  say('identified', {
    conn: detail.connection.id,
    peer: detail.peerId.toString(),
    agent: detail.agentVersion ?? '',
    version: detail.protocolVersion ?? '',
    protocols: detail.protocols,
    listen: detail.listenAddrs.map(String),
    observed: detail.observedAddr?.toString() ?? null
  })
})

await own.handle(ECHO, (stream) => { echo(stream).catch((error) => stream.abort(error)) }, STREAMS)
await own.handle(MUTE, (stream) => { stream.pause() }, STREAMS)
await own.handle(RESET, (stream) => {
  stream.addEventListener('message', () => stream.abort(new Error('as asked')), { once: true })
}, STREAMS)

const commands = {
  async dial (addr) {
    const conn = await own.dial(multiaddr(addr), { force: true })
    return { addr, peer: conn.remotePeer.toString(), conn: conn.id }
  },
  async ping (peer) {
    const ms = await own.services.ping.ping(peerIdFromString(peer))
    return { peer, us: Math.round(ms * 1000) }
  },
  async echo (peer, text) {
    const stream = await own.dialProtocol(peerIdFromString(peer), ECHO, STREAMS)
    const sent = new TextEncoder().encode(text)
    stream.send(sent)
    await stream.close()
    const parts = []
    for await (const bytes of stream) parts.push(bytes.subarray())
    return { peer, text: Buffer.concat(parts).toString() }
  },
  async close (peer) {
    await own.hangUp(peerIdFromString(peer))
    return { peer }
  },
  async held (peer) {
    return { peer, held: own.getConnections(peerIdFromString(peer)).length }
  },
  async quit () {
    await own.stop()
    process.exit(0)
  }
}

async function obey (line) {
  const [command, ...words] = line.trim().split(' ')
  if (command === '') return
  try {
    if (commands[command] === undefined) throw new Error(`no command ${command}`)
    say('done', { command, ...await commands[command](...words) })
  } catch (error) {
    say('failed', { command, on: words[0] ?? '', error: `${error.name}: ${error.message}` })
  }
}

const shown = options['wrong-identity'] ? peerIdFromPrivateKey(await generateKeyPair('Ed25519')) : own.peerId
say('ready', {
  partner: 'js-libp2p',
  pid: process.pid,
  peer: shown.toString(),
  addrs: own.getMultiaddrs().map((addr) => `${addr.toString().split('/p2p/')[0]}/p2p/${shown}`)
})
createInterface({ input: process.stdin }).on('line', obey).on('close', () => commands.quit())
