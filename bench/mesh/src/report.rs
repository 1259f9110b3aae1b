//! Shows the figures: a table for people, one line of JSON for programs. It refuses to judge them.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::{Args, Name, measure::Figures};

/// Prints how the figures came about.
pub fn method(args: &Args) -> String {
    format!(
        "Listener and dialler are processes of their own on 127.0.0.1, {threads}; figures are medians of {rounds} rounds in which \
         the contenders take turns. CPU is CLOCK_PROCESS_CPUTIME_ID of both processes over {handshakes} handshakes, each from dial \
         until both sides are proven up (mesh: answer and confirm; floor: hello, answer and confirm bytes; swarm: identify received) \
         and closed again, divided by their number. KiB per idle connection is the growth of the listener's Rss (smaps_rollup, \
         whole process) from after 8 handshakes to {idle} held connections, {settle} s after the last, divided by their number. \
         CPU with 100 idle peers is the listener's over {seconds} s. Same build profile for all (release, thin LTO, overflow \
         checks). Swarm: libp2p 0.57, TCP (nodelay) + Noise + Yamux, identify + ping at their defaults, idle connections kept, one \
         dialling identity for all connections. Floor: rustls 0.23 (ring), mutual TLS 1.3 with Ed25519 certificates, no \
         resumption, as many hello bytes as the mesh sends, yamux 0.14, one task per connection and no manager.",
        threads = match args.threads {
            0 => "one thread for the floor and the swarm".to_owned(),
            threads => format!("{threads} worker threads for the floor and the swarm"),
        },
        rounds = args.rounds,
        handshakes = args.handshakes,
        idle = args.idle,
        settle = args.settle,
        seconds = args.idle_seconds,
    )
}

/// One object on one line.
pub fn json(args: &Args, figures: &[(Name, Figures)]) -> Result<String> {
    let mut whole = Map::new();
    for (name, figures) in figures {
        whole.insert(name.word().replace('-', "_"), serde_json::to_value(figures)?);
    }
    whole.insert("handshakes".to_owned(), json!(args.handshakes));
    whole.insert("idle_connections".to_owned(), json!(args.idle));
    whole.insert("rounds".to_owned(), json!(args.rounds));
    whole.insert("method".to_owned(), json!(method(args)));
    Ok(Value::Object(whole).to_string())
}

/// A line per figure, a column per contender.
pub fn table(args: &Args, figures: &[(Name, Figures)]) -> String {
    let rows: [Row; 5] = [
        ("CPU per handshake, both sides, one at a time, µs", |f| f.cpu_us_per_handshake),
        ("the same, 16 at once, µs", |f| f.cpu_us_per_handshake_16),
        ("handshakes a second, 16 at once", |f| f.handshakes_per_second_16),
        ("KiB per idle connection, listener's process", |f| f.kib_per_idle_connection),
        ("CPU with 100 idle peers, listener, % of a core", |f| f.cpu_percent_100_idle),
    ];
    let mut text = format!("{:<50}", "");
    for (name, _) in figures {
        text.push_str(&format!("{:>13}", name.word()));
    }
    for (label, pick) in rows {
        text.push_str(&format!("\n{label:<50}"));
        for (_, figures) in figures {
            text.push_str(&format!("{:>13}", short(pick(figures))));
        }
    }
    format!("{text}\n\nMethod. {}", method(args))
}

type Row = (&'static str, fn(&Figures) -> f64);

fn short(figure: f64) -> String {
    if figure >= 100.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}
