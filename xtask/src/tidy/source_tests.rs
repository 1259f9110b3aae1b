//! Bad input for the source rules: each canary must be found, each innocent neighbour must pass.
//!
//! Test code only.

use super::*;
use crate::tidy::file;

const HEAD: &str = "//! For a test.\n";

/// The problems of `code` in the file `path`, as text.
fn problems(path: &str, code: &str) -> Vec<String> {
    check(&file(path, &format!("{HEAD}{code}"))).iter().map(ToString::to_string).collect()
}

fn one(path: &str, code: &str, word: &str) {
    let found = problems(path, code);
    assert!(found.len() == 1 && found[0].contains(word), "{code} gave {found:?}, wanted one with {word}");
}

fn none(path: &str, code: &str) {
    assert_eq!(problems(path, code), Vec::<String>::new(), "{code}");
}

#[test]
fn canary_a_file_without_its_purpose_is_found() {
    let found = check(&file("crates/net/src/a.rs", "// For nothing.\n"));
    assert_eq!(found[0].line, 1);
    assert_eq!(check(&file("crates/net/src/a.rs", "//! For it.\n")), []);
}

#[test]
fn canary_a_file_that_is_not_rust_is_found() {
    one("crates/net/src/a.rs", "fn a() { (", "is not Rust");
}

#[test]
fn canary_a_long_file_is_found_and_its_unit_tests_do_not_count() {
    let filler = |n: usize| "// x\n".repeat(n);
    one("crates/net/src/a.rs", &filler(500), "501 lines without tests");
    none("crates/net/src/a.rs", &filler(499));
    none("crates/net/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{}}}\n{}", filler(400), filler(400)));
    one("crates/net/src/a.rs", &format!("mod inner {{\n{}}}\n", filler(600)), "lines without tests");
    one("crates/net/tests/a.rs", &filler(900), "901 lines of tests");
    none("crates/net/tests/a.rs", &filler(800));
}

#[test]
fn canary_a_long_function_is_found_wherever_it_stands() {
    let body = |n: usize| "    a();\n".repeat(n);
    let long = format!("fn long() {{\n{}}}\n", body(69));
    one("crates/net/src/a.rs", &long, "function `long` has 71 lines");
    one("crates/net/src/a.rs", &format!("impl A {{\n{long}}}"), "function `long`");
    none("crates/net/src/a.rs", &format!("fn short() {{\n{}}}\n", body(68)));
    none("crates/net/src/a.rs", &format!("#[cfg(test)]\nmod tests {{ {long} }}"));
    none("crates/net/tests/a.rs", &long);
}

#[test]
fn canary_a_deciding_crate_must_not_name_std_or_floats() {
    let path = "crates/core/src/a.rs";
    one(path, "use std::time::Instant;", "must not name std");
    one(path, "extern crate std;", "must not name std");
    one(path, "fn a() -> u64 { ::std::process::id() }", "must not name std");
    one("crates/paths/src/a.rs", "fn a(b: f64) {}", "floats");
    one(path, "const A: u64 = (1.5 * 2) as u64;", "floats");
    none("crates/net/src/a.rs", "use std::time::Instant; fn a(b: f64) {}");
    none(path, "/// Like std::time::Instant.\nfn a() -> &'static str { \"std::time 1.5\" }");
    none(path, "fn a(b: (u8, u8)) -> u8 { b.0 + b.1.0 + 0x1f32 }");
    none(path, "#[cfg(test)]\nmod tests { use std::vec::Vec; }");
    none(path, "#[cfg(test)]\nextern crate std;");
}

#[test]
fn canary_a_deciding_crate_must_be_no_std() {
    one("crates/core/src/lib.rs", "mod a;", "#![no_std]");
    none("crates/core/src/lib.rs", "#![no_std]\nmod a;");
    one("crates/paths/src/lib.rs", "#![cfg_attr(not(test), no_std)]", "#![no_std]");
    none("crates/net/src/lib.rs", "mod a;");
}

#[test]
fn canary_unfinished_macros_and_switched_off_tests_are_found() {
    for name in BANNED_MACROS {
        one("crates/net/src/a.rs", &format!("fn a() {{ {name}!() }}"), name);
        one("crates/net/tests/a.rs", &format!("fn a() {{ {name}!() }}"), name);
        none("crates/net/src/a.rs", &format!("/// Never {name}!().\nfn a() {{ let {name} = 1; }}"));
    }
    one("crates/net/tests/a.rs", "#[test]\n#[ignore]\nfn a() {}", "switched off");
    one("crates/net/tests/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}", "switched off");
}

#[test]
fn canary_a_channel_without_a_bound_is_found() {
    let path = "crates/net/src/a.rs";
    one(path, "fn a() { let c = mpsc::unbounded_channel(); }", "without a bound");
    one(path, "fn a() { let c = unbounded_channel::<u8>(); }", "without a bound");
    one(path, "fn a() { let c = std::sync::mpsc::channel(); }", "without a bound");
    one(path, "fn a() { let c = mpsc::channel::<u8>(); }", "without a bound");
    none(path, "fn a() { let c = mpsc::channel(16); }");
    none(path, "fn a() { let c = tokio::sync::oneshot::channel(); }");
    none(path, "#[cfg(test)]\nmod tests { fn a() { let c = mpsc::channel(); } }");
    none("xtask/src/a.rs", "fn a() { let c = mpsc::channel(); }");
}

#[test]
fn tests_are_told_from_other_functions() {
    let code = "fn plain() {}\n#[test]\nfn one() {}\n#[tokio::test(start_paused = true)]\nasync fn two() {}\n\
                proptest! { #![proptest_config(x)]\n/// Why.\n#[test]\nfn three(a in 0..3) {} }\nfn after() {}\n\
                #[test_log::test]\nfn four() {}";
    let found: Vec<_> = functions(code).into_iter().map(|f| (f.name, f.is_test)).collect();
    let wanted =
        [("plain", false), ("one", true), ("two", true), ("three", true), ("after", false), ("four", true)];
    assert_eq!(found, wanted.map(|(name, is_test)| (name.to_owned(), is_test)));
}
