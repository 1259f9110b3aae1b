//! What happened, in plain sentences, kept only when somebody will read it.

use peerkeep_core::Time;
use std::fmt::Write as _;

/// A line of a story, and which nodes it is about.
#[derive(Clone, Debug)]
struct Line {
    at: Time,
    nodes: [u32; 2],
    text: String,
}

/// The story of a run; writes nothing down unless it was asked to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    lines: Vec<Line>,
    is_kept: bool,
}

/// Lines kept at most; the oldest go first.
const MOST: usize = 20_000;

impl Story {
    pub fn kept() -> Story {
        Story { lines: Vec::new(), is_kept: true }
    }

    /// Notes a line about one or two nodes.
    pub fn add(&mut self, at: Time, nodes: [u32; 2], text: impl FnOnce() -> String) {
        if !self.is_kept {
            return;
        }
        if self.lines.len() >= MOST {
            self.lines.drain(..MOST / 2);
        }
        self.lines.push(Line { at, nodes, text: text() });
    }

    /// The last lines that are about these nodes; all lines for none.
    pub fn about(&self, nodes: &[u32], most: usize) -> String {
        let is_about = |line: &&Line| nodes.is_empty() || line.nodes.iter().all(|node| nodes.contains(node));
        let lines: Vec<&Line> = self.lines.iter().filter(is_about).collect();
        let mut text = String::new();
        for line in &lines[lines.len().saturating_sub(most)..] {
            let (seconds, micros) = (line.at.0 / 1_000_000, line.at.0 % 1_000_000);
            let _ = writeln!(text, "{seconds:>5}.{micros:06} s  {}", line.text);
        }
        text
    }
}
