//! Rules for Rust source: first line, sizes, what the deciding crates may name, banned macros, unbounded channels.
//!
//! Works on tokens, so comments and strings never count as code. It knows no types: a channel hidden behind another
//! name passes.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

use super::Problem;
use crate::project::File;

/// Lines of a file, its unit tests not counted.
const MAX_FILE_LINES: usize = 500;
/// Lines of a file that holds tests only.
const MAX_TEST_FILE_LINES: usize = 900;
/// Lines of a function, from `fn` to its last brace. Test functions may be longer: a scenario reads best in one piece.
const MAX_FUNCTION_LINES: usize = 70;
/// The crates that must be deterministic.
const DECIDING: &[&str] = &["crates/core/src/", "crates/paths/src/"];
const BANNED_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

/// A function found in a file, macro bodies included.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name without path or parameters.
    pub name: String,
    /// Whether an attribute such as `#[test]` or `#[tokio::test]` stands before it.
    pub is_test: bool,
    /// Its doc comment, as source text.
    pub doc: String,
    first_line: usize,
    last_line: usize,
    /// Whether it stands inside a `#[cfg(test)]` module.
    in_tests: bool,
}

/// Every broken rule of one Rust file.
pub fn check(file: &File) -> Vec<Problem> {
    let mut scan = match Scan::of(&file.text) {
        Ok(scan) => scan,
        Err(what) => return vec![Problem::new(&file.path, 0, what)],
    };
    let mut problems: Vec<Problem> = Vec::new();
    let mut found = |line: usize, what: String| problems.push(Problem::new(&file.path, line, what));
    if !file.text.starts_with("//!") {
        found(1, "the first line must be `//!` and say what the file is for".into());
    }

    let all_lines = file.text.lines().count();
    if file.is_test() {
        if all_lines > MAX_TEST_FILE_LINES {
            found(0, format!("{all_lines} lines of tests; at most {MAX_TEST_FILE_LINES}"));
        }
    } else {
        let lines = all_lines.saturating_sub(scan.test_lines);
        if lines > MAX_FILE_LINES {
            found(0, format!("{lines} lines without tests; at most {MAX_FILE_LINES}: split it by noun"));
        }
        for function in scan.functions.iter().filter(|f| !f.in_tests) {
            let lines = function.last_line - function.first_line + 1;
            if lines > MAX_FUNCTION_LINES {
                let what =
                    format!("function `{}` has {lines} lines; at most {MAX_FUNCTION_LINES}", function.name);
                found(function.first_line, what);
            }
        }
    }

    for (line, what) in scan.banned.drain(..) {
        found(line, what);
    }
    if DECIDING.iter().any(|folder| file.path.starts_with(folder)) && !file.is_test() {
        if file.path.ends_with("src/lib.rs") && !scan.no_std {
            found(0, "a deciding crate must say `#![no_std]`".into());
        }
        for (line, what) in scan.undecided.drain(..) {
            found(line, what);
        }
    }
    if file.path.starts_with("crates/") && !file.is_test() {
        for line in scan.unbounded.drain(..) {
            found(
                line,
                "a queue without a bound: say how many it holds, and what happens when it is full".into(),
            );
        }
    }
    problems
}

/// The functions of a Rust file; none when it is not Rust.
pub fn functions(text: &str) -> Vec<Function> {
    Scan::of(text).map(|scan| scan.functions).unwrap_or_default()
}

/// Everything one walk over the tokens finds. Lines count from 1.
#[derive(Default)]
struct Scan {
    functions: Vec<Function>,
    /// Lines inside `#[cfg(test)] mod … { … }`.
    test_lines: usize,
    no_std: bool,
    /// Never allowed.
    banned: Vec<(usize, String)>,
    /// Not allowed in a deciding crate, outside its tests.
    undecided: Vec<(usize, String)>,
    /// Lines that make an unbounded channel, outside tests.
    unbounded: Vec<usize>,
}

/// What the attributes since the last item or statement say.
#[derive(Default)]
struct Attributes {
    is_test: bool,
    cfg_test: bool,
    doc: String,
}

impl Scan {
    fn of(text: &str) -> Result<Scan, String> {
        let tokens: TokenStream = text.parse().map_err(|error| format!("is not Rust: {error}"))?;
        let mut scan = Scan::default();
        scan.walk(tokens, false);
        Ok(scan)
    }

    fn walk(&mut self, tokens: TokenStream, in_tests: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut said = Attributes::default();
        for (at, token) in tokens.iter().enumerate() {
            let rest = &tokens[at..];
            match token {
                TokenTree::Group(group) => {
                    if is_attribute(&tokens[..at], group) {
                        self.attribute(group, &mut said);
                    } else {
                        let tests_module = said.cfg_test && group.delimiter() == Delimiter::Brace;
                        if tests_module && !in_tests {
                            self.test_lines += span_lines(group.span_open(), group.span_close());
                        }
                        self.walk(group.stream(), in_tests || tests_module);
                        if group.delimiter() == Delimiter::Brace {
                            said = Attributes::default();
                        }
                    }
                }
                TokenTree::Ident(ident) => {
                    let in_tests = in_tests || said.cfg_test;
                    self.functions.extend(function(rest, &said, in_tests));
                    self.name(ident, rest, &tokens[..at], in_tests);
                }
                TokenTree::Literal(literal) if !in_tests && !said.cfg_test => {
                    // `pair.0.1` reads as a float after the first dot.
                    if is_float(&literal.to_string()) && !is_punct(tokens[..at].last(), '.') {
                        self.undecided
                            .push((line(literal.span()), "a deciding crate computes without floats".into()));
                    }
                }
                token if is_punct(Some(token), ';') => said = Attributes::default(),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Notes what one attribute says of the item after it.
    fn attribute(&mut self, group: &Group, said: &mut Attributes) {
        let text: String = group.stream().to_string();
        if let Some(doc) = text.strip_prefix("doc = ") {
            said.doc.push_str(doc);
            return;
        }
        let text: String = text.split_whitespace().collect();
        let name = text.split(['(', '=']).next().unwrap_or_default();
        said.is_test |= name == "test" || name.ends_with("::test");
        said.cfg_test |= text.starts_with("cfg(test") || text.starts_with("cfg(all(test");
        self.no_std |= text == "no_std";
        if name == "ignore" {
            self.banned
                .push((line(group.span_open()), "a test that is switched off: mend it or remove it".into()));
        }
    }

    /// Looks at one identifier: `rest` begins with it, `before` ends before it.
    fn name(&mut self, ident: &Ident, rest: &[TokenTree], before: &[TokenTree], in_tests: bool) {
        let name = ident.to_string();
        let at = line(ident.span());
        if BANNED_MACROS.contains(&name.as_str()) && is_punct(rest.get(1), '!') {
            self.banned.push((at, format!("`{name}!` must not be committed")));
        }
        if in_tests {
            return;
        }
        let names_std = name == "std" && (is_punct(rest.get(1), ':') || is_ident(before.last(), "crate"));
        if names_std {
            self.undecided.push((at, "a deciding crate must not name std".into()));
        }
        if name == "f32" || name == "f64" {
            self.undecided.push((at, "a deciding crate computes without floats".into()));
        }
        // Making one, not importing the name or the type: a call follows, perhaps after `::<T>`.
        let called =
            rest.iter().skip(1).take_while(|t| !is_punct(Some(t), ';')).find_map(|token| match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => Some(group),
                _ => None,
            });
        let follows = rest.get(1).is_some_and(|t| matches!(t, TokenTree::Group(_)) || is_punct(Some(t), ':'));
        let Some(call) = called.filter(|_| follows) else { return };
        let of_mpsc = before.len() >= 3 && is_ident(before.get(before.len() - 3), "mpsc");
        let unbounded = match name.as_str() {
            "unbounded_channel" | "unbounded" => true,
            "channel" => of_mpsc && call.stream().is_empty(),
            _ => false,
        };
        if unbounded {
            self.unbounded.push(at);
        }
    }
}

/// The function that starts at `tokens`, when it has a body.
fn function(tokens: &[TokenTree], said: &Attributes, in_tests: bool) -> Option<Function> {
    if !is_ident(tokens.first(), "fn") {
        return None;
    }
    let Some(TokenTree::Ident(name)) = tokens.get(1) else { return None };
    for token in tokens.iter().skip(2) {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                return Some(Function {
                    name: name.to_string(),
                    is_test: said.is_test,
                    doc: said.doc.clone(),
                    first_line: line(tokens[0].span()),
                    last_line: line(group.span_close()),
                    in_tests,
                });
            }
            token if is_punct(Some(token), ';') => return None,
            _ => {}
        }
    }
    None
}

/// Whether `group` is the brackets of an attribute.
fn is_attribute(before: &[TokenTree], group: &Group) -> bool {
    let marked = match before {
        [.., TokenTree::Punct(hash), TokenTree::Punct(bang)] if bang.as_char() == '!' => {
            hash.as_char() == '#'
        }
        [.., last] => is_punct(Some(last), '#'),
        [] => false,
    };
    marked && group.delimiter() == Delimiter::Bracket
}

fn is_float(literal: &str) -> bool {
    let number = literal.starts_with(|c: char| c.is_ascii_digit()) && !literal.starts_with("0x");
    number && (literal.contains('.') || literal.ends_with("f32") || literal.ends_with("f64"))
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_ident(token: Option<&TokenTree>, wanted: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == wanted)
}

fn line(span: Span) -> usize {
    span.start().line
}

fn span_lines(open: Span, close: Span) -> usize {
    line(close) - line(open) + 1
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
