//! The simulator drives the core that ships, so it may not hold a second state machine: no type with the core's words
//! for where something stands, and no such word assigned or kept.
//!
//! Works on words and neighbours, not on types. Looking at a stage to judge a core by is allowed; a machine in words of
//! its own passes, and a reviewer must see it.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Problem;
use crate::project::File;

/// Where the rule holds.
const WORLDS: &str = "crates/sim/src/";
/// The core's own tables and states.
const TYPES: &[&str] = &["Core", "Stage", "Standing", "Contact", "Conn", "Flags", "Wheel", "Bans", "Counts"];
/// What the core's states are called.
const STATES: &[&str] = &[
    "Idle",
    "Queued",
    "Waiting",
    "Dialing",
    "Connected",
    "GaveUp",
    "Resolving",
    "Arriving",
    "Held",
    "Offered",
    "Up",
    "Refusing",
    "Closing",
];
/// An enum with so many of them is a state machine's.
const MANY: usize = 3;

/// Every sign of a second state machine in the simulator.
pub fn check(file: &File) -> Vec<Problem> {
    let mut problems = Vec::new();
    if file.path.starts_with(WORLDS)
        && let Ok(tokens) = file.text.parse::<TokenStream>()
    {
        walk(&file.path, tokens, &mut problems);
    }
    problems
}

fn walk(path: &str, tokens: TokenStream, problems: &mut Vec<Problem>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for at in 0..tokens.len() {
        let mut found = |what: String| {
            problems.push(Problem::new(path, tokens[at].span().start().line, what));
        };
        let word = |offset: usize| tokens.get(at + offset).map(ToString::to_string).unwrap_or_default();
        let before = |back: usize| at.checked_sub(back).map(|at| tokens[at].to_string()).unwrap_or_default();
        let name = word(1);
        if matches!(word(0).as_str(), "struct" | "enum" | "type") && TYPES.contains(&name.as_str()) {
            found(format!("`{name}` is the core's: the simulator drives the core and has no copy of it"));
        }
        if word(0) == "enum" && has_states(&tokens[at..]) {
            found(format!("`{name}` has the core's states: ask the core where something stands"));
        }
        let is_state = matches!(word(0).as_str(), "Stage" | "Standing");
        // `=` of an assignment, not the end of `==`, `!=`, `<=`, `>=`; and `name: Stage` of a field or a parameter.
        let assigned = before(1) == "=" && !matches!(before(2).as_str(), "=" | "!" | "<" | ">");
        let kept = before(1) == ":" && before(2) != ":" && word(1) != ":";
        if is_state && (assigned || kept) {
            found(format!("a {} is set or kept: only the core does that", word(0)));
        }
        if let TokenTree::Group(group) = &tokens[at] {
            walk(path, group.stream(), problems);
        }
    }
}

/// Whether the enum that begins here has many of the core's states as variants.
fn has_states(tokens: &[TokenTree]) -> bool {
    let body = tokens.iter().take(6).find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group.stream()),
        _ => None,
    });
    let words = body.into_iter().flatten().filter(|token| matches!(token, TokenTree::Ident(_)));
    words.filter(|word| STATES.contains(&word.to_string().as_str())).count() >= MANY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::file;

    fn problems(text: &str) -> usize {
        check(&file("crates/sim/src/x.rs", text)).len()
    }

    #[test]
    fn canary_a_second_state_machine_in_the_simulator_is_refused() {
        for text in [
            "enum Stage { A }",
            "struct Contact { wanted: bool }",
            "type Standing = u8;",
            "enum Where { Idle, Dialing(u8), Connected }",
            "fn f() { self.stage = Stage::Up; }",
            "fn f() { let now = Standing::Idle; }",
            "struct Row { at: Stage }",
            "mod deep { struct Row { at: Standing } }",
        ] {
            assert_eq!(problems(text), 1, "{text}");
        }
    }

    #[test]
    fn looking_at_the_core_is_allowed_and_other_crates_are_free() {
        for text in [
            "use peerkeep_core::{Stage, Standing};",
            "fn f(c: &ContactView) -> bool { c.standing == Standing::Connected }",
            "fn f(c: &ConnView) -> bool { c.stage != Stage::Up || c.stage >= Stage::Up }",
            "fn f(c: Standing2) { match c { Standing::Idle => 1, _ => 2 }; }",
            "enum Socket { Free, Lookup, Racing, Up }",
            "struct Node { core: Core }",
            "// enum Stage { A }",
        ] {
            assert_eq!(problems(text), 0, "{text}");
        }
        let other = file("crates/core/src/x.rs", "enum Stage { A }");
        assert_eq!(check(&other), []);
    }
}
