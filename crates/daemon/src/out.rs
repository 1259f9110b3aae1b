//! Everything that goes to the terminal passes here: text from peers loses its escapes, a closed pipe is no error,
//! JSON is one object on one line. Nothing here knows what it prints.

use crate::exit::Failure;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

/// Tables are fitted to terminals at least this wide.
const MIN_TABLE_COLUMNS: u16 = 60;
/// How long a failed command waits for whoever reads why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Prints one line, or several, to standard output.
pub fn text(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| {
        if !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()
    });
    if written.is_err() {
        // The reader went away (`peerkeep peers | head`); there is nobody left to tell.
        std::process::exit(0);
    }
}

/// Prints one object on one line. Control characters that JSON leaves alone are escaped, so that a terminal shows them.
pub fn json(value: &impl Serialize) {
    text(&json_line(value));
}

/// Prints the object for programs or the text for people.
pub fn either(as_json: bool, value: &impl Serialize, people: impl FnOnce() -> String) {
    if as_json { json(value) } else { text(&people()) }
}

/// The same beside the program's other work, which goes on when nobody reads it or takes it (fault R7).
pub fn offer(as_json: bool, value: &impl Serialize, people: impl FnOnce() -> String) {
    let mut text = if as_json { json_line(value) } else { people() };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    aside_of_all(move || {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    });
}

/// Says something beside the output, on standard error.
pub fn aside(text: &str) {
    let _ = writeln!(io::stderr(), "{}", clean(text));
}

/// Prints a failure, for programs on standard output, for people on standard error, and gives the exit code.
pub fn failure(as_json: bool, failure: &Failure) -> ExitCode {
    if failure.message.is_empty() {
        return failure.code.into();
    }
    let (as_text, failed) = (clean_lines(&failure.to_string()), failure.clone());
    let said = aside_of_all(move || {
        if as_json {
            json(&serde_json::json!({
                "error": failed.code.word(),
                "message": failed.message,
                "refusal": failed.refusal,
                "next": failed.next,
            }));
        } else {
            let _ = writeln!(io::stderr(), "peerkeep: {as_text}");
        }
    });
    // The end does not wait for a reader that sleeps.
    let _ = said.recv_timeout(LAST_WORDS);
    failure.code.into()
}

/// Says it on a thread of its own. What it returns ends when all is said.
fn aside_of_all(say: impl FnOnce() + Send + 'static) -> mpsc::Receiver<()> {
    let (sender, said) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        say();
        drop(sender);
    });
    said
}

/// Whether people watch standard error: progress is shown only then.
pub fn watched() -> bool {
    io::stderr().is_terminal()
}

/// A table in the house's look, cut to the width of the terminal, without borders when it is not one.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(if io::stdout().is_terminal() {
        presets::UTF8_FULL_CONDENSED
    } else {
        presets::NOTHING
    });
    // A terminal that does not know its width, or is narrower than any table, wraps lines itself.
    if table.width().is_some_and(|width| width >= MIN_TABLE_COLUMNS) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(header.iter().map(|name| name.to_string()).collect::<Vec<_>>());
    table
}

/// Names and values below each other, aligned.
pub fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        let mut lines = value.lines();
        text.push_str(&format!("{name:width$}  {}\n", lines.next().unwrap_or("")));
        for line in lines {
            text.push_str(&format!("{:width$}  {line}\n", ""));
        }
    }
    text
}

/// Text from outside without terminal escapes, control characters and direction overrides, on one line (fault A14).
pub fn clean(text: &str) -> String {
    strip(text, false)
}

/// The same, but lines stay lines.
pub fn clean_lines(text: &str) -> String {
    strip(text, true)
}

/// A span as people say it, two units at most: `1h 2m`, `1.7s`, `250ms`.
pub fn span(span: Duration) -> String {
    let ms = span.as_millis();
    match ms {
        0..=999 => return format!("{ms}ms"),
        1_000..=9_999 if ms % 1_000 >= 100 => return format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        _ => {}
    }
    let rounded = Duration::from_secs(span.as_secs());
    let text = humantime::format_duration(rounded).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// The same from milliseconds.
pub fn span_ms(ms: u64) -> String {
    span(Duration::from_millis(ms))
}

fn json_line(value: &impl Serialize) -> String {
    let plain = serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    if !plain.chars().any(char::is_control) {
        return plain;
    }
    let mut line = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        if c.is_control() {
            line.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            line.push(c);
        }
    }
    line
}

fn strip(text: &str, keep_lines: bool) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_until(&mut chars, |c| ('@'..='~').contains(&c)),
            '\n' if keep_lines => kept.push('\n'),
            '\n' | '\t' => kept.push(' '),
            c if c.is_control() || turns_direction(c) => {}
            c => kept.push(c),
        }
    }
    kept
}

fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => skip_until(chars, |c| ('@'..='~').contains(&c)),
        // A string command (title, clipboard, link) ends with BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                match c {
                    '\u{7}' | '\u{9c}' => return,
                    '\u{1b}' => {
                        chars.next_if_eq(&'\\');
                        return;
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn skip_until(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, last: impl Fn(char) -> bool) {
    for c in chars.by_ref() {
        if last(c) {
            return;
        }
    }
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault R5 as well.
    #[test]
    fn fault_a14_escapes_from_peers_never_reach_the_terminal() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m"), "red");
        assert_eq!(clean("\u{1b}]0;owned\u{7}title"), "title");
        assert_eq!(clean("\u{1b}]52;c;ZXZpbA==\u{1b}\\clip"), "clip");
        assert_eq!(clean("a\u{9b}2Jb\u{7}\u{8}c\u{7f}"), "abc");
        assert_eq!(clean("two\nlines\r\n"), "two lines ");
        assert_eq!(clean("good\u{202e}live"), "goodlive");
        assert_eq!(clean("plain ümlaut 漢字"), "plain ümlaut 漢字");
        assert_eq!(clean("\u{1b}"), "");
    }

    #[test]
    fn fault_a14_json_shows_control_characters_as_escapes() {
        let line = json_line(&serde_json::json!({ "agent": "\u{1b}[2J\u{9b}x\u{7f}" }));
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let back: serde_json::Value = serde_json::from_str(&line).expect("still JSON");
        assert_eq!(back["agent"], "\u{1b}[2J\u{9b}x\u{7f}");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!(span_ms(0), "0ms");
        assert_eq!(span_ms(250), "250ms");
        assert_eq!(span_ms(1_740), "1.7s");
        assert_eq!(span_ms(2_000), "2s");
        assert_eq!(span_ms(61_500), "1m 1s");
        assert_eq!(span_ms(90_061_000), "1day 1h");
    }

    #[test]
    fn facts_align_and_indent() {
        assert_eq!(facts(&[("a", "1".into()), ("long", "2\n3".into())]), "a     1\nlong  2\n      3\n");
    }
}
