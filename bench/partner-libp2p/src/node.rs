//! The swarm with its stock behaviours, the commands it takes, and the events it tells. It refuses to tune the swarm, but for
//! how long it keeps idle connections when it is asked to.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    core::ConnectedPoint,
    identify,
    identity::Keypair,
    noise, ping,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, tls, yamux,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{Security, say, streams};

#[derive(NetworkBehaviour)]
pub struct Stock {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: libp2p_stream::Behaviour,
}

/// A node and what is asked of it.
pub struct Partner {
    swarm: Swarm<Stock>,
    dials: HashMap<ConnectionId, String>,
    /// Connections up, by peer.
    held: HashMap<PeerId, u32>,
    asks: mpsc::Sender<Asked>,
    answers: mpsc::Receiver<Asked>,
}

/// What came of a command that took time.
struct Asked {
    command: &'static str,
    on: String,
    result: Result<Value>,
}

macro_rules! swarm {
    ($key:expr, $security:expr, $idle:expr) => {
        SwarmBuilder::with_existing_identity($key)
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), $security, yamux::Config::default)?
            .with_quic()
            .with_dns()?
            .with_behaviour(stock)?
            .with_swarm_config(|config| match $idle {
                Some(idle) => config.with_idle_connection_timeout(idle),
                None => config,
            })
            .build()
    };
}

fn stock(key: &Keypair) -> Stock {
    Stock {
        identify: identify::Behaviour::new(identify::Config::new("/partner/1".into(), key.public())),
        ping: ping::Behaviour::default(),
        streams: libp2p_stream::Behaviour::new(),
    }
}

impl Partner {
    pub fn new(key: Keypair, security: &[Security], idle: Option<Duration>) -> Result<Partner> {
        let swarm = match security {
            [Security::Noise] => swarm!(key, noise::Config::new, idle),
            [Security::Tls] => swarm!(key, tls::Config::new, idle),
            [Security::Noise, Security::Tls] => swarm!(key, (noise::Config::new, tls::Config::new), idle),
            [Security::Tls, Security::Noise] => swarm!(key, (tls::Config::new, noise::Config::new), idle),
            _ => bail!("--security takes each of noise and tls at most once"),
        };
        streams::serve(&mut swarm.behaviour().streams.new_control())?;
        let (asks, answers) = mpsc::channel(64);
        Ok(Partner { swarm, dials: HashMap::new(), held: HashMap::new(), asks, answers })
    }

    /// Listens on each and gives the addresses, in their order.
    pub async fn listen(&mut self, wanted: impl Iterator<Item = Multiaddr>) -> Result<Vec<Multiaddr>> {
        let mut addrs = Vec::new();
        for addr in wanted {
            let asked = self.swarm.listen_on(addr)?;
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::NewListenAddr { listener_id, address } if listener_id == asked => {
                        addrs.push(address);
                        break;
                    }
                    SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == asked => {
                        reason.context("listening")?;
                        bail!("the listener closed");
                    }
                    other => self.handle_event(other),
                }
            }
        }
        Ok(addrs)
    }

    /// Waits for one event or answer and tells it.
    pub async fn progress(&mut self) {
        tokio::select! {
            event = self.swarm.select_next_some() => self.handle_event(event),
            Some(Asked { command, on, result }) = self.answers.recv() => tell(command, &on, result),
        }
    }

    /// Takes one line.
    pub fn obey(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (command, on) = (words.first().copied().unwrap_or(""), words.get(1).copied().unwrap_or(""));
        if let Err(error) = self.try_obey(&words) {
            tell(command, on, Err(error));
        }
    }

    fn try_obey(&mut self, words: &[&str]) -> Result<()> {
        match *words {
            [] => {}
            ["dial", addr] => {
                let opts = DialOpts::from(addr.parse::<Multiaddr>()?);
                let conn = opts.connection_id();
                self.swarm.dial(opts)?;
                self.dials.insert(conn, addr.to_owned());
            }
            ["ping", peer] => {
                let control = self.swarm.behaviour().streams.new_control();
                let peer: PeerId = peer.parse()?;
                self.ask("ping", peer, streams::ask_ping(control, peer));
            }
            ["echo", peer, text] => {
                let control = self.swarm.behaviour().streams.new_control();
                let peer: PeerId = peer.parse()?;
                self.ask("echo", peer, streams::ask_echo(control, peer, text.to_owned()));
            }
            ["close", peer] => {
                let known = self.swarm.disconnect_peer_id(peer.parse()?);
                ensure!(known.is_ok(), "not connected");
                tell("close", peer, Ok(json!({ "peer": peer })));
            }
            ["held", peer] => {
                let held = self.held.get(&peer.parse()?).copied().unwrap_or(0);
                tell("held", peer, Ok(json!({ "peer": peer, "held": held })));
            }
            _ => bail!("no such command"),
        }
        Ok(())
    }

    fn ask(
        &self,
        command: &'static str,
        peer: PeerId,
        work: impl Future<Output = Result<Value>> + Send + 'static,
    ) {
        let asks = self.asks.clone();
        tokio::spawn(async move {
            let result = work.await;
            // The partner may have ended: then nobody is left to tell.
            let _ = asks.send(Asked { command, on: peer.to_string(), result }).await;
        });
    }

    fn handle_event(&mut self, event: SwarmEvent<StockEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id, connection_id, endpoint, num_established, ..
            } => {
                self.held.insert(peer_id, num_established.get());
                say(
                    "connected",
                    json!({
                        "conn": connection_id.to_string(), "peer": peer_id.to_string(), "held": num_established.get(),
                        "direction": if endpoint.is_dialer() { "outbound" } else { "inbound" },
                        "addr": remote(&endpoint).to_string(),
                    }),
                );
                if let Some(addr) = self.dials.remove(&connection_id) {
                    let (peer, conn) = (peer_id.to_string(), connection_id.to_string());
                    tell("dial", &addr, Ok(json!({ "addr": addr, "peer": peer, "conn": conn })));
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(addr) = self.dials.remove(&connection_id) {
                    tell("dial", &addr, Err(error.into()));
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                match num_established {
                    0 => self.held.remove(&peer_id),
                    left => self.held.insert(peer_id, left),
                };
                say(
                    "disconnected",
                    json!({
                        "conn": connection_id.to_string(), "peer": peer_id.to_string(), "held": num_established,
                        "cause": cause.map(|cause| cause.to_string()),
                    }),
                );
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                say("refused", json!({ "error": error.to_string() }));
            }
            SwarmEvent::Behaviour(StockEvent::Identify(event)) => identified(event),
            SwarmEvent::Behaviour(StockEvent::Ping(event)) => pinged(event),
            _ => {}
        }
    }
}

fn remote(endpoint: &ConnectedPoint) -> &Multiaddr {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => address,
        ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
    }
}

fn tell(command: &str, on: &str, result: Result<Value>) {
    match result {
        Ok(mut fields) => {
            if let Some(fields) = fields.as_object_mut() {
                fields.insert("command".to_owned(), command.into());
            }
            say("done", fields);
        }
        Err(error) => say("failed", json!({ "command": command, "on": on, "error": format!("{error:#}") })),
    }
}

fn identified(event: identify::Event) {
    match event {
        identify::Event::Received { connection_id, peer_id, info } => say(
            "identified",
            json!({
                "conn": connection_id.to_string(), "peer": peer_id.to_string(),
                "agent": info.agent_version, "version": info.protocol_version,
                "protocols": info.protocols.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "listen": info.listen_addrs.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "observed": info.observed_addr.to_string(),
            }),
        ),
        identify::Event::Error { connection_id, peer_id, error } => {
            let (conn, peer) = (connection_id.to_string(), peer_id.to_string());
            say("unidentified", json!({ "conn": conn, "peer": peer, "error": error.to_string() }));
        }
        identify::Event::Sent { .. } | identify::Event::Pushed { .. } => {}
    }
}

fn pinged(event: ping::Event) {
    let (conn, peer) = (event.connection.to_string(), event.peer.to_string());
    match event.result {
        Ok(rtt) => say("pinged", json!({ "conn": conn, "peer": peer, "us": rtt.as_secs_f64() * 1e6 })),
        Err(error) => say("unpinged", json!({ "conn": conn, "peer": peer, "error": error.to_string() })),
    }
}
