//! How long two nodes take to notice that their link is dead: packets between two network namespaces vanish, without a
//! FIN or a RST, while the link is idle and while data is in flight. Needs root; says so and measures nothing without.
//! It makes its own namespaces and takes them away again, also when it fails.

mod child;
mod lab;

use anyhow::{Context, Result, bail};
use clap::Parser;
use lab::Lab;
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long two nodes take to notice a dead link
#[derive(Debug, Parser)]
struct Args {
    /// End with one JSON object on one line instead of a table
    #[arg(long)]
    json: bool,
    /// Which liveness settings to try: ping, keepalive-only
    #[arg(long, value_delimiter = ',', default_value = "ping,keepalive-only")]
    modes: Vec<String>,
    #[arg(long, hide = true)]
    child: Option<String>,
}

const METHOD: &str = "Two nodes with default settings, each a process in a network namespace of its own, joined by one \
     veth pair. When both are connected (and, for `busy`, 1 KiB messages flow one way every 20 ms), nft drops every packet \
     in and out of one namespace. The time from there until each side tells that its link is lost, by the measuring \
     process's clock. One run a row.";

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(mode) = &args.child {
        return child::run(mode);
    }
    if !lab::is_root() {
        println!("skipped: network namespaces need root");
        return Ok(());
    }
    let mut rows = Vec::new();
    for mode in &args.modes {
        for busy in [false, true] {
            let state = if busy { "busy" } else { "idle" };
            eprintln!("{mode}, {state}: up to a minute");
            let noticed = measure(mode, busy)?;
            rows.push((mode.clone(), state, noticed));
        }
    }
    if args.json {
        let figures: Vec<_> = rows
            .iter()
            .map(|(mode, state, noticed)| json!({ "liveness": mode, "link": state, "seconds": noticed }))
            .collect();
        let worst = rows.iter().flat_map(|row| row.2).fold(0.0, f64::max);
        println!("{}", json!({ "worst_seconds": worst, "rows": figures, "method": METHOD }));
        return Ok(());
    }
    println!("{METHOD}\n\nliveness         link   listener s  dialler s");
    for (mode, state, [listener, dialler]) in rows {
        println!("{mode:<16} {state:<5} {listener:>11.1} {dialler:>10.1}");
    }
    Ok(())
}

/// Seconds until the listener and the dialler noticed.
fn measure(mode: &str, busy: bool) -> Result<[f64; 2]> {
    let lab = Lab::new()?;
    let mut listener = Party::start(&lab, 0, mode)?;
    let address = listener.ask("address")?;
    let mut dialler = Party::start(&lab, 1, mode)?;
    dialler.ask("address")?;
    dialler.ask(&format!("dial {address}"))?;
    listener.ask("connected")?;
    if busy {
        dialler.ask("talk")?;
    }
    std::thread::sleep(Duration::from_secs(2));
    let begin = Instant::now();
    lab.cut()?;
    let waiting = std::thread::spawn(move || {
        let answer = listener.ask("lost");
        (answer.map(|_| begin.elapsed().as_secs_f64()), listener)
    });
    dialler.ask("lost")?;
    let dialled = begin.elapsed().as_secs_f64();
    let (listened, _listener) = waiting.join().ok().context("the waiting thread ended")?;
    Ok([listened?, dialled])
}

/// A node in a namespace, driven by lines. Ends with this value.
struct Party {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Party {
    fn start(lab: &Lab, side: usize, mode: &str) -> Result<Party> {
        let program = std::env::current_exe()?;
        let mut child = Command::new("ip")
            .args(["netns", "exec", &lab.names[side]])
            .arg(program)
            .args(["--child", &format!("{}={mode}", lab.addresses[side])])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("ip netns exec")?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Party { child, input, output })
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.input, "{line}")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        match answer.trim() {
            "" => bail!("the node ended at {line:?}"),
            answer => Ok(answer.to_owned()),
        }
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        // It has ended by itself when this fails.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
