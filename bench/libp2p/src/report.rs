//! Shows the figures: a table for people, one line of JSON for programs. It refuses to judge them.

use serde_json::{Map, Value, json};

use crate::{
    Args, Name,
    contender::Over,
    measure::{ROWS, Round},
};

/// The figures of all contenders over one transport.
pub type Figures = (Over, Vec<(Name, Round)>);

fn method(args: &Args) -> String {
    format!(
        "Listener and dialler are processes of their own on 127.0.0.1, one thread for the floor and the swarm beside a node's own shards; medians of {rounds} \
         rounds in which the contenders take turns. CPU is CLOCK_PROCESS_CPUTIME_ID of both over {handshakes} handshakes, each \
         from dial until identify is received, and closed again. Each side asks the other for identify. KiB per idle connection: growth \
         of the listener's Rss (smaps_rollup, whole process) from after 8 connections to {idle} held connections of as many \
         peers, {settle} s after the last; the floor dials all listeners. Dial to first echo: {firsts} times, a channel as soon as one can be \
         asked for. Echo: {echoes} fresh channels on one connection. Upload: {mib} MiB in writes of 64 KiB to a sink that says when \
         it has everything. Crowd: 100 channels at once, each in a closed loop of 32-byte echoes; unread: the hundredth is \
         never read by the other side and its windows are full; the median of three such p99, taken in turns with the other. Ours: whole nodes at \
         production settings with wide limits, libp2p alone, nothing on disk; a dialling node for each connection at once; channels opened at once. Swarm: libp2p 0.57 with libp2p-stream, TCP (nodelay), Noise, Yamux and QUIC, \
         identify and ping at their defaults, idle connections kept. Floor: the same crates on bare connections \
         (multistream-select with V1Lazy, libp2p-noise, yamux 0.14, quinn with libp2p-tls and libp2p-quic's limits), identify both ways, \
         one task per connection, ping answered and not sent, no pool.",
        rounds = args.rounds,
        handshakes = args.handshakes,
        idle = args.idle,
        settle = args.settle,
        firsts = args.firsts,
        echoes = args.echoes,
        mib = args.mib,
    )
}

/// One object on one line: `tcp` and `quic`, each with a key per row and contender, ours without a prefix.
pub fn json(args: &Args, figures: &[Figures]) -> String {
    let mut whole = Map::new();
    for (over, contenders) in figures {
        let mut rows = Map::new();
        for (name, round) in contenders {
            for ((key, _), figure) in ROWS.iter().zip(round) {
                rows.insert(format!("{}{key}", name.prefix()), json!(figure));
            }
        }
        whole.insert(over.word().to_owned(), Value::Object(rows));
    }
    whole.insert("handshakes".to_owned(), json!(args.handshakes));
    whole.insert("idle_connections".to_owned(), json!(args.idle));
    whole.insert("rounds".to_owned(), json!(args.rounds));
    whole.insert("method".to_owned(), json!(method(args)));
    Value::Object(whole).to_string()
}

/// A table per transport, a line per figure, a column per contender.
pub fn table(args: &Args, figures: &[Figures]) -> String {
    let mut text = String::new();
    for (over, contenders) in figures {
        text.push_str(&format!("{:<50}", over.word()));
        for (name, _) in contenders {
            text.push_str(&format!("{:>10}", name.word()));
        }
        for (index, (_, label)) in ROWS.iter().enumerate() {
            text.push_str(&format!("\n{label:<50}"));
            for (_, round) in contenders {
                text.push_str(&format!("{:>10}", short(round[index])));
            }
        }
        text.push_str("\n\n");
    }
    format!("{text}Method. {}", method(args))
}

fn short(figure: f64) -> String {
    if figure >= 100.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}
