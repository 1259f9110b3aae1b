//! The settings file from outside.

use super::*;
use std::os::unix::fs::PermissionsExt;

const ID: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

fn read(text: &str) -> Result<Settings, SettingsError> {
    Settings::read(text, None, &[])
}

/// The mistakes as `line key`.
fn mistakes(text: &str) -> Vec<(usize, String)> {
    let error = read(text).expect_err("is refused");
    error.mistakes.into_iter().map(|mistake| (mistake.line, mistake.key)).collect()
}

fn over(key: &str, value: &str, origin: &str) -> Override {
    Override { key: key.into(), value: value.into(), origin: origin.into() }
}

#[test]
fn the_template_shows_every_key_at_its_default() {
    assert_eq!(read(TEMPLATE).expect("reads"), Settings::default());
    let bare: String = TEMPLATE
        .lines()
        .filter(|line| !line.starts_with("##") && !line.starts_with("# "))
        .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
        .collect();
    assert_eq!(read(&bare).expect("reads uncommented"), Settings::default());
    let mut section = "";
    let mut shown = Vec::new();
    for line in bare.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, value)) = line.split_once(" = ") {
            shown.push(format!("{section}.{key} = {value}"));
        }
    }
    let mut all: Vec<String> =
        Settings::default().written().iter().map(|(s, k, v)| format!("{s}.{k} = {v}")).collect();
    shown.sort();
    all.sort();
    assert_eq!(shown, all);
}

#[test]
fn what_is_written_reads_back() {
    let text = format!(
        "[network]\nallow = [\"{ID}\"]\nlocal_ip = \"203.0.113.5\"\n[listen]\naddresses = [\"0.0.0.0:1\", \
         \"[::]:2\"]\n[peers]\nwanted = [\"/dns4/a.org/tcp/7/p2p/{ID}\"]\n[bans]\nexempt = [\"10.0.0.0/8\"]\n\
         [timeouts]\nidle = \"90s\"\n[backoff]\ngrowth = 1.5\njitter = 0\n[limits]\nmessage = 1000"
    );
    let settings = read(&text).expect("reads");
    assert_eq!(settings.timeouts.idle, Some(Duration::from_secs(90)));
    assert_eq!(settings.backoff.growth, PerMille(1_500));
    assert_eq!(read(&settings.to_toml()).expect("reads what it wrote"), settings);
    let changes = settings.changes(&Settings::default());
    assert!(changes.contains(&"backoff.growth".to_owned()) && changes.contains(&"bans.exempt".to_owned()));
    assert_eq!(changes.len(), 9, "{changes:?}");
}

#[test]
fn fault_g1_every_mistake_is_named_by_line_and_key() {
    let text = "[limits]\ntotal = \"many\"\nper_ipp = 3\n\n[timeouts]\nestablish = \"soon\"\nidle = 5\n\n[bogus]\nx = 1\n\
                [log]\nformat = \"xml\"\nlevel = 3\n";
    assert_eq!(
        mistakes(text),
        [
            (2, "limits.total".into()),
            (3, "limits.per_ipp".into()),
            (6, "timeouts.establish".into()),
            (7, "timeouts.idle".into()),
            (10, "bogus.x".into()),
            (12, "log.format".into()),
            (13, "log.level".into()),
        ]
    );
    let said = read(text).expect_err("is refused").to_string();
    assert!(
        said.contains("line 3: limits.per_ipp: there is no such key; [limits] has: bans, channels"),
        "{said}"
    );
}

#[test]
fn fault_g1_syntax_errors_are_named_by_line() {
    let error = read("[limits]\ntotal = 5\n\n[timeouts\nhold = \"1s\"\n").expect_err("is refused");
    assert_eq!(error.mistakes[0].line, 4, "{error}");
    assert!(read("total = 5").is_err(), "a key outside a section");
    assert!(read("[limits]\ntotal = 5\ntotal = 6").is_err(), "a key twice");
    assert!(read(&"#".repeat(2 << 20)).is_err(), "too long");
    assert_eq!(mistakes("\n[nothing]\n"), [(2, "nothing".into())]);
}

#[test]
fn fault_g1_values_out_of_range_are_refused() {
    for (text, key) in [
        ("[limits]\ntotal = 0", "limits.total"),
        ("[limits]\ntotal = 16777217", "limits.total"),
        ("[limits]\ntotal = -1", "limits.total"),
        ("[limits]\ntotal = 99999999999", "limits.total"),
        ("[limits]\nper_peer = 33", "limits.per_peer"),
        ("[limits]\nchannels = 0", "limits.channels"),
        ("[limits]\nmessage = \"2MiB\"", "limits.message"),
        ("[limits]\nmessage = \"2 apples\"", "limits.message"),
        ("[timeouts]\nhold = \"0s\"", "timeouts.hold"),
        ("[timeouts]\nestablish = \"8days\"", "timeouts.establish"),
        ("[timeouts]\nestablish = \"1000years\"", "timeouts.establish"),
        ("[liveness]\nmisses = 0", "liveness.misses"),
        ("[liveness]\nmisses = 256", "liveness.misses"),
        ("[liveness]\nmode = \"prayer\"", "liveness.mode"),
        ("[liveness]\nkeepalive_count = 0", "liveness.keepalive_count"),
        ("[backoff]\njitter = 1.1", "backoff.jitter"),
        ("[backoff]\njitter = nan", "backoff.jitter"),
        ("[backoff]\njitter = 900", "backoff.jitter"),
        ("[backoff]\ngrowth = 0.5", "backoff.growth"),
        ("[backoff]\nfirst = \"10m\"", "backoff.first"),
        ("[backoff]\nmax = \"1s\"", "backoff.max"),
        ("[journal]\nsegments = 1", "journal.segments"),
        ("[journal]\nsegment = 5", "journal.segment"),
        ("[network]\nname = \"\"", "network.name"),
        ("[network]\nallow = [\"me\"]", "network.allow"),
        ("[bans]\nexempt = [\"0.0.0.0/0\"]", "bans.exempt"),
        ("[peers]\nwanted = [\"/ip4/1.2.3.4/udp/1\"]", "peers.wanted"),
        ("[listen]\nannounce = [\"0.0.0.0:1\"]", "listen.announce"),
        ("[node]\nagent = \"a\\u0007b\"", "node.agent"),
    ] {
        assert_eq!(mistakes(text), [(2, key.to_owned())], "{text}");
    }
}

#[test]
fn s3_70_the_rule_on_two_dials_goes_back_and_forth_by_a_setting() {
    let rule = |text: &str| {
        let settings = read(text).expect("reads");
        settings.core_config(peerkeep_core::PeerKey::ed25519([1; 32]), 1).expect("holds together").rules[0]
            .duplicates
    };
    assert_eq!(rule(""), peerkeep_core::Duplicates::Numbers);
    assert_eq!(rule("[preference]\ntwo_dials = \"hold\""), peerkeep_core::Duplicates::HoldAndConfirm);
    assert_eq!(rule("[preference]\ntwo_dials = \"numbers\""), peerkeep_core::Duplicates::Numbers);
    assert!(read("[preference]\ntwo_dials = \"none\"").is_err(), "no way to have two");
}

#[test]
fn s3_85_local_ip_takes_an_address_without_a_port_and_sets_the_preference() {
    let settings = read("[network]\nlocal_ip = \"69.167.168.176\"").expect("reads");
    let config = settings.core_config(peerkeep_core::PeerKey::ed25519([1; 32]), 5).expect("holds");
    let local_ip = peerkeep_core::Addr::tcp("69.167.168.176:1".parse().expect("address")).ip;
    assert_eq!(config.preference, peerkeep_core::Preference::Address { local_ip });
    assert!(settings.warnings().is_empty());
    for bad in ["69.167.168.176:24100", "69.167.168", "here", "0.0.0.0", "224.0.0.1"] {
        let text = format!("[network]\nlocal_ip = \"{bad}\"");
        assert_eq!(mistakes(&text), [(2, "network.local_ip".into())], "{bad}");
    }
}

#[test]
fn s3_86_without_local_ip_the_identity_decides_and_a_warning_says_so() {
    let settings = read("[preference]\norder = \"address\"").expect("reads");
    let config = settings.core_config(peerkeep_core::PeerKey::ed25519([1; 32]), 5).expect("holds");
    assert_eq!(config.preference, peerkeep_core::Preference::Identity);
    assert!(settings.warnings()[0].contains("network.local_ip"));
    assert!(Settings::default().warnings().is_empty());
}

#[test]
fn fault_g5_options_win_over_variables_over_the_file() {
    let text = "[limits]\ntotal = 10\ninbound = 11\noutbound = 12\n";
    let overrides = [
        over("limits.total", "20", "PEERKEEP_TOTAL"),
        over("limits.inbound", "21", "PEERKEEP_INBOUND"),
        over("limits.total", "30", "--total"),
        over("log.level", "debug", "--log"),
    ];
    let settings = Settings::read(text, None, &overrides).expect("reads");
    let limits = &settings.limits;
    assert_eq!((limits.total, limits.inbound, limits.outbound), (30, 21, 12));
    assert_eq!(settings.log.level, "debug");
    let bad =
        [over("limits.total", "lots", "--total"), over("nonsense", "1", "--x"), over("a.b", "1", "--y")];
    let error = Settings::read(text, None, &bad).expect_err("is refused");
    let said = error.to_string();
    assert!(said.contains("--total: limits.total: expected a whole number"), "{said}");
    assert_eq!(error.mistakes.len(), 3, "{said}");
}

#[test]
fn fault_g5_secrets_are_refused_anywhere_but_in_a_file() {
    let error = read("[network]\nsecret = \"hunter2 hunter2 hunter2\"").expect_err("is refused");
    assert!(error.to_string().contains("network.secret_file") && !error.to_string().contains("hunter2"));
    let argv = [over("network.secret", "hunter2 hunter2 hunter2", "--set")];
    let error = Settings::read("", None, &argv).expect_err("is refused");
    assert!(error.to_string().contains("network.secret_file") && !error.to_string().contains("hunter2"));
}

#[test]
fn a_secret_file_is_beside_the_settings_and_private() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("net.secret");
    let path = folder.path().join("peerkeep.toml");
    std::fs::write(&path, "[network]\nsecret_file = \"net.secret\"\n[listen]\naddresses = [\"0.0.0.0:0\"]\n")
        .expect("writes");
    let settings = Settings::load(&path, &[]).expect("reads");
    assert_eq!(settings.admission(), Admission::Secret);
    assert!(settings.read_secret().expect_err("is missing").to_string().contains("net.secret"));
    let put = |bytes: &[u8], mode| {
        std::fs::write(&secret, bytes).expect("writes");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).expect("sets the mode");
        settings.read_secret().map(|secret| secret.expect("is named").to_vec())
    };
    assert_eq!(put(b"0123456789abcdef\n", 0o600).ok(), Some(b"0123456789abcdef".to_vec()));
    assert!(put(b"0123456789abcdef\n", 0o640).is_ok());
    assert!(put(b"0123456789abcdef\n", 0o644).expect_err("is public").to_string().contains("chmod"));
    assert!(put(b"short\n", 0o600).is_err());
    assert!(put(&[b'x'; 5_000], 0o600).is_err());
}

#[test]
fn without_secret_and_list_only_loopback_is_listened_on() {
    assert_eq!(mistakes("[listen]\naddresses = [\"0.0.0.0:7330\"]"), [(2, "listen.addresses".into())]);
    assert_eq!(
        mistakes("[listen]\naddresses = [\"127.0.0.1:1\", \"[::]:1\"]"),
        [(2, "listen.addresses".into())]
    );
    for fine in [
        "[listen]\naddresses = [\"127.0.0.9:1\", \"[::1]:1\"]".to_owned(),
        "[listen]\naddresses = []".to_owned(),
        "[network]\nopen = true\n[listen]\naddresses = [\"0.0.0.0:1\"]".to_owned(),
        format!("[network]\nallow = [\"{ID}\"]\n[listen]\naddresses = [\"0.0.0.0:1\"]"),
        "[network]\nsecret_file = \"x\"\n[listen]\naddresses = [\"0.0.0.0:1\"]".to_owned(),
    ] {
        assert!(read(&fine).is_ok(), "{fine}");
    }
    let open = read("[network]\nopen = true\n[listen]\naddresses = [\"0.0.0.0:1\"]").expect("reads");
    assert!(open.warnings()[0].contains("anybody"));
}

/// S1.3: the section may be left out; S1.17: without TLS it takes a word, and off loopback one more.
#[test]
fn s1_3_s1_17_tls_is_optional_and_doing_without_it_off_loopback_takes_a_word_of_its_own() {
    for with in ["", "[tls]\nenabled = true", "[tls]\ninsecure = true"] {
        let settings = read(with).expect("reads");
        assert!(settings.tls.enabled && settings.warnings().is_empty(), "{with}");
    }
    let plain = "[network]\nopen = true\n[tls]\nenabled = false\n";
    let local = read(plain).expect("reads");
    assert!(local.warnings().iter().any(|warning| warning.contains("on loopback are neither private")));
    for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
        let text = format!("{plain}[listen]\naddresses = [\"127.0.0.1:1\", \"{address}\"]");
        assert_eq!(mistakes(&text), [(4, "tls.enabled".into())]);
        let text = text.replace("enabled = false", "enabled = false\ninsecure = true");
        let warnings = read(&text).expect("they said so").warnings();
        assert!(warnings.iter().any(|warning| warning.contains("over TCP are neither private")));
    }
    // QUIC has TLS whatever is set.
    let quic = format!("{plain}[listen]\naddresses = [\"/ip4/0.0.0.0/udp/1/quic-v1\"]");
    assert!(read(&quic).is_ok());
}

#[test]
fn the_defaults_are_the_cores_own() {
    let me = peerkeep_core::PeerKey::ed25519([1; 32]);
    let config = Settings::default().core_config(me, 5).expect("holds");
    assert_eq!(config, peerkeep_core::Config::new(me, 5));
}

/// Found by the fuzzer: TOML's reader gives some of its errors no place.
#[test]
fn fault_g1_a_mistake_without_a_place_of_its_own_still_names_a_line() {
    let text = format!("{}[limi!]\ntotal = 5\n", ".".repeat(82));
    let error = Settings::read(&text, None, &[]).expect_err("is no TOML");
    assert!(error.mistakes.iter().all(|mistake| mistake.line > 0), "{error:?}");
}
