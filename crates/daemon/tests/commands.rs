//! The command line without a daemon: exit codes, JSON on every command, configuration and identity files.
#![allow(missing_docs)]

mod common;

use common::{Home, command, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_exit_codes_of_the_help_are_the_real_ones() {
    let help = run(&["--help"]).expect(0).out;
    for line in ["2  the command line is wrong", "3  no daemon is running", "8  another daemon uses"] {
        assert!(help.contains(line), "{line:?} is not in:\n{help}");
    }
    run(&["ban"]).expect(2);
    run(&["no-such-command"]).expect(2);
    run(&["demo", "--nodes", "1"]).expect(2);
    assert_eq!(run(&["--json", "ban"]).expect(2).json()["error"], "usage");
    assert!(run(&["--version"]).expect(0).out.starts_with("peerkeep 0."));
}

#[test]
fn without_a_daemon_every_question_ends_with_3_and_says_how_to_start_one() {
    let home = Home::new(1);
    let id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let questions: &[&[&str]] = &[
        &["status"],
        &["peers"],
        &["peer", id],
        &["why", id],
        &["connect", "127.0.0.1:7330"],
        &["disconnect", id],
        &["want", "127.0.0.1:7330"],
        &["unwant", id],
        &["retry", id],
        &["reset", id],
        &["cancel", id],
        &["ban", id, "--for", "1h"],
        &["unban", id],
        &["bans"],
        &["events", "--follow"],
        &["config", "reload"],
    ];
    for question in questions {
        let people = home.ask(question).expect(3);
        assert!(people.err.contains("peerkeep run --data"), "{question:?}: {people:?}");
        assert!(people.out.is_empty(), "{question:?}: {people:?}");
        let mut args = vec!["--json"];
        args.extend(*question);
        let program = home.ask(&args).expect(3);
        assert_eq!(program.out.lines().count(), 1, "{program:?}");
        assert_eq!(program.json()["error"], "not_running");
        assert!(program.err.is_empty(), "{program:?}");
    }
}

#[test]
fn fault_g1_a_wrong_configuration_is_refused_by_line_and_key() {
    let home = Home::new(1);
    let file = home.folder.path().join("wrong.toml");
    let check = |text: &str| {
        fs::write(&file, text).expect("write");
        home.ask(&["config", "check", file.to_str().expect("text")])
    };
    for (text, line, key) in [
        ("[limits]\ntotal = 10\n\ntotl = 3\n", "line 4", "limits.totl"),
        ("[limits]\ntotal = \"many\"\n", "line 2", "limits.total"),
        ("[limitz]\ntotal = 3\n", "line", "limitz"),
        ("[timeouts]\n\n\nestablish = \"0s\"\n", "line 4", "timeouts.establish"),
        ("[limits\n", "line 1", ""),
        ("[network]\nsecret = \"hunter2hunter2hunter2\"\n", "line 2", "network.secret"),
    ] {
        let said = check(text).expect(6);
        assert!(said.err.contains(line) && said.err.contains(key), "{text:?}: {said:?}");
        assert!(!said.err.contains("hunter2"), "a secret is repeated: {said:?}");
    }
    check("[limits]\ntotal = 600\n").expect(0);
    let json = home.ask(&["--json", "config", "check"]).expect(0).json();
    assert_eq!(json["ok"], true);
}

#[test]
fn the_commented_file_is_good_and_says_every_default() {
    let home = Home::new(1);
    let template = home.ask(&["config", "show", "--default"]).expect(0).out;
    assert!(template.lines().filter(|line| line.starts_with("##")).count() > 20, "it explains: {template}");
    let file = home.folder.path().join("t.toml");
    let plain: String = template
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(['#', ' ']) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(&file, plain).expect("write");
    home.ask(&["config", "check", "--config", file.to_str().expect("text")]).expect(0);
    let shown = home.json(&["config", "show"]);
    assert_eq!(shown["limits"]["total"], 500);
}

#[test]
fn fault_g5_the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let home = Home::new(1);
    fs::create_dir(home.data()).expect("a folder");
    fs::write(home.data().join("peerkeep.toml"), "[limits]\ntotal = 300\n").expect("write");
    let total = |environment: bool, option: bool| {
        let mut command = command();
        command.arg("--json").arg("--data").arg(home.data()).args(["config", "show"]);
        if environment {
            command.env("PEERKEEP_LIMITS_TOTAL", "400");
        }
        if option {
            command.args(["--set", "limits.total=450"]);
        }
        common::Said::of(command.output().expect("runs")).expect(0).json()["limits"]["total"].clone()
    };
    assert_eq!(total(false, false), 300);
    assert_eq!(total(true, false), 400);
    assert_eq!(total(true, true), 450);
}

#[test]
fn fault_i9_an_identity_moves_by_export_and_import_and_is_never_replaced() {
    let (one, two) = (Home::new(1), Home::new(1));
    let backup = one.folder.path().join("backup.key");
    let backup = backup.to_str().expect("text");
    one.ask(&["identity", "show"]).expect(9);
    one.ask(&["identity", "export", backup]).expect(9);

    fs::write(backup, format!("peerkeep-ed25519-seed-v1 {}\n", "11".repeat(32))).expect("write");
    let imported = two.json(&["identity", "import", backup]);
    let id = imported["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("12D3KooW"), "{id}");
    let mode = fs::metadata(two.data().join("identity.key")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(two.json(&["identity", "show"])["id"], id.as_str());

    let before = fs::read(two.data().join("identity.key")).expect("there");
    two.ask(&["identity", "import", backup]).expect(9);
    assert_eq!(fs::read(two.data().join("identity.key")).expect("there"), before);

    let copy = two.folder.path().join("copy.key");
    let copy = copy.to_str().expect("text");
    two.ask(&["identity", "export", copy]).expect(0);
    assert_eq!(fs::metadata(copy).expect("there").permissions().mode() & 0o777, 0o600);
    two.ask(&["identity", "export", copy]).expect(1);
    assert_eq!(one.json(&["identity", "import", copy])["id"], id.as_str());
    assert!(!two.ask(&["identity", "show"]).out.contains(&"11".repeat(32)), "the key itself is not shown");
}

#[test]
fn completions_and_a_missing_journal() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).expect(0).out.contains("peerkeep"), "{shell}");
    }
    run(&["completions", "dos"]).expect(2);
    let home = Home::new(1);
    home.ask(&["replay", "/no/such/file.pkj"]).expect(4);
    let foreign = home.folder.path().join("x.pkj");
    fs::write(&foreign, b"not a journal").expect("write");
    let said = home.ask(&["--json", "replay", foreign.to_str().expect("text")]).expect(1);
    assert_eq!(said.json()["digest_match"], false);
}
