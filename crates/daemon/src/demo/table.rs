//! The demo's screen: a live table on a terminal, plain lines elsewhere, nothing at all for programs.

use super::Plan;
use super::fleet::Fleet;
use super::watch::Watch;
use crate::cmd::events::sentence;
use crate::cmd::peers::short;
use crate::out;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// Where the demo shows what it does.
#[derive(Debug)]
pub struct Screen {
    silent: bool,
    live: bool,
    lines: usize,
    phase: String,
    began: Instant,
}

impl Screen {
    /// A screen for this plan; it is standard output.
    pub fn new(plan: &Plan) -> Screen {
        let live = !plan.json && io::stdout().is_terminal();
        Screen { silent: plan.json, live, lines: 0, phase: String::new(), began: Instant::now() }
    }

    /// A line that stays.
    pub fn say(&mut self, line: &str) {
        if self.silent {
            return;
        }
        self.wipe();
        out::text(&format!("{:7.1}s  {line}", self.began.elapsed().as_secs_f64()));
    }

    /// What is going on from now on.
    pub fn phase(&mut self, phase: &str) {
        if self.phase != phase {
            self.phase = phase.into();
            if !self.live && phase != "holding" {
                self.say(phase);
            }
        }
    }

    /// Draws the table anew.
    pub fn draw(&mut self, fleet: &Fleet, watch: &Watch) {
        if !self.live {
            return;
        }
        let mut table =
            out::table(&["NODE", "ID", "AT", "STATE", "CONNECTED", "DIALS", "FAILED", "HANDSHAKES FAILED"]);
        for (index, member) in fleet.members.iter().enumerate() {
            let status = watch.status(index);
            let number = |pick: fn(&peerkeep::NodeStatus) -> u64| {
                status.map_or_else(|| "-".into(), |status| pick(status).to_string())
            };
            table.add_row(vec![
                (index + 1).to_string(),
                short(member.id()),
                format!("{}:{}", member.ip, fleet.port),
                member.state.into(),
                number(|status| u64::from(status.counts.connected)),
                number(|status| status.totals.dials),
                number(|status| status.totals.failed),
                number(|status| status.totals.handshake_failures),
            ]);
        }
        let mut text = format!("{:7.1}s  {}\n{table}\n", self.began.elapsed().as_secs_f64(), self.phase);
        if let Some((index, event)) = &watch.last_event {
            let said: String = format!("node {}: {}", index + 1, sentence(event)).chars().take(110).collect();
            text.push_str(&said);
            text.push('\n');
        }
        self.wipe();
        self.lines = text.lines().count();
        out::text(&text);
    }

    /// The table goes; what was said stays.
    pub fn finish(&mut self) {
        self.wipe();
    }

    fn wipe(&mut self) {
        if self.live && self.lines > 0 {
            let mut stdout = io::stdout().lock();
            let _ = write!(stdout, "\x1b[{}A\x1b[J", self.lines);
            let _ = stdout.flush();
        }
        self.lines = 0;
    }
}
