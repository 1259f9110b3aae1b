//! `peerkeep replay`.

use crate::cli::Shared;
use crate::exit::{Code, Ended, Failure};
use crate::out;
use crate::story::{Sentence, Story, last_fault, standing_of};
use peerkeep::{PeerId, Timestamp};
use peerkeep_core::journal::{JournalError, Replay};
use peerkeep_core::{Effects, View};
use serde::Serialize;
use std::fs;
use std::io::Read;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

/// Largest segment that is read, in bytes: a checkpoint of the largest table and the actions after it.
const MAX_SEGMENT_BYTES: u64 = 2 << 30;

/// Run a journal again: check that it gives the same, show a moment, or tell a peer's story.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  peerkeep replay ~/.local/state/peerkeep/journal            (all segments, in order)
  peerkeep replay 0000000012.pkj --json
  peerkeep replay 0000000012.pkj --at 12.5s                  (since the segment began)
  peerkeep replay 0000000012.pkj --at 2026-01-29T12:00:00Z
  peerkeep replay 0000000012.pkj --peer 12D3KooW...

Ends with 1 if the replay decides anything differently from the recording, or the recording is damaged.")]
pub struct Args {
    /// A segment of the journal, or the folder with all of them.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Show the state then: a time since the beginning such as 90s, or a moment such as 2026-01-29T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Tell this peer's story, up to the time of --at.
    #[arg(long, value_name = "ID")]
    peer: Option<PeerId>,
}

/// What a replay came to.
#[derive(Debug, Default, Serialize)]
struct Found {
    actions: u64,
    digest_match: bool,
    segments: usize,
    /// Segments that a crash or a full disk cut short. What they hold was still checked.
    cut: usize,
    /// Times at which the recording goes on from another state than it had left.
    gaps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Timestamp>,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    story: Option<Vec<Sentence>>,
}

/// The core at one moment.
#[derive(Debug, Serialize)]
struct State {
    at: Timestamp,
    connected: u32,
    peers: Vec<Row>,
    bans: usize,
}

/// A peer at that moment.
#[derive(Debug, Serialize)]
struct Row {
    id: PeerId,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    addresses: Vec<String>,
}

/// Runs it.
pub fn run(shared: &Shared, args: &Args) -> Ended {
    let files = segments(&args.file)?;
    let spinner = super::spinner(shared, format!("replaying {}", args.file.display()));
    // A journal may come from anybody (fault K8): an assert of the core that its content trips is an answer too.
    let replayed = panic::catch_unwind(AssertUnwindSafe(|| replay(&files, args)));
    spinner.finish_and_clear();
    let found = replayed
        .unwrap_or_else(|_| Err(Failure::failed("the recording holds what no node can have recorded")))?;
    out::either(shared.json, &found, || people(&found, args));
    if found.digest_match { Ok(()) } else { Err(Failure::shown(Code::Failed)) }
}

/// Replays a whole journal: how many actions, and the first thing that was not as recorded.
///
/// # Errors
/// It cannot be read.
pub fn check(journal: &Path) -> Result<(u64, Option<String>), Failure> {
    let args = Args { file: journal.to_owned(), at: None, peer: None };
    let found = replay(&segments(journal)?, &args)?;
    Ok((found.actions, found.problem))
}

fn replay(files: &[PathBuf], args: &Args) -> Result<Found, Failure> {
    let mut found = Found { digest_match: true, ..Found::default() };
    let mut story = None;
    let mut left_at: Option<u64> = None;
    for file in files {
        let bytes = read(file)?;
        let mut replay = match Replay::new(&bytes) {
            Ok(replay) => replay,
            Err(error) => {
                found.fail(file, error);
                break;
            }
        };
        found.segments += 1;
        found.from.get_or_insert(Timestamp(replay.began_unix_ms));
        if left_at.is_some_and(|digest| digest != replay.core.digest()) {
            found.gaps += 1;
        }
        let until = args.at.as_deref().map(|at| moment(at, found.from.unwrap_or_default())).transpose()?;
        if let (Some(peer), None) = (args.peer, &story) {
            story = Some(Story::begin(peer, &replay));
        }
        let most = until.map_or(u64::MAX, |until| actions_until(&bytes, until));
        let more = step_all(&mut replay, &mut found, story.as_mut(), most, file);
        left_at = Some(replay.core.digest());
        found.digest = format!("{:016x}", replay.core.digest());
        if args.at.is_some() && args.peer.is_none() {
            let now = until.or(found.to).unwrap_or_default();
            found.state = Some(state(&replay.core.view(), now));
        }
        if !more {
            break;
        }
    }
    found.story = story.map(|story| story.sentences);
    Ok(found)
}

/// Steps one segment to its end or to the moment asked for; whether there is anything to see after it.
fn step_all(
    replay: &mut Replay<'_>,
    found: &mut Found,
    mut story: Option<&mut Story>,
    most: u64,
    file: &Path,
) -> bool {
    let mut effects = Effects::new();
    while replay.actions < most {
        match replay.step(&mut effects) {
            Ok(Some((now, action))) => {
                found.actions += 1;
                found.to = Some(Timestamp(replay.unix_ms(now)));
                if let Some(story) = story.as_deref_mut() {
                    story.hear(replay, now, &action, &effects);
                }
            }
            Ok(None) => {
                found.cut += usize::from(!replay.ended);
                return true;
            }
            Err(error) => {
                found.fail(file, error);
                return false;
            }
        }
    }
    false
}

/// How many actions of a segment lie at or before a moment. A step cannot be taken back, so this is a run of its own.
fn actions_until(bytes: &[u8], until: Timestamp) -> u64 {
    let Ok(mut replay) = Replay::new(bytes) else { return u64::MAX };
    let mut effects = Effects::new();
    while let Ok(Some((now, _))) = replay.step(&mut effects) {
        if Timestamp(replay.unix_ms(now)) > until {
            return replay.actions - 1;
        }
    }
    u64::MAX
}

impl Found {
    fn fail(&mut self, file: &Path, error: JournalError) {
        self.digest_match = false;
        let what = match error {
            JournalError::NotASegment => "this is no segment of a journal".into(),
            JournalError::TooLarge => "a length in it is beyond its limit".into(),
            JournalError::Checkpoint(error) => format!("its checkpoint is damaged ({error:?})"),
            JournalError::Mismatch { after_actions } => {
                format!(
                    "after {after_actions} actions the bytes are damaged, or the replay decided differently"
                )
            }
            JournalError::EndMismatch => {
                "its end was recorded with another digest than the one reached".into()
            }
        };
        self.problem = Some(format!("{}: {what}", file.display()));
    }
}

fn state(view: &View<'_>, at: Timestamp) -> State {
    let row = |contact: peerkeep_core::ContactView| Row {
        id: PeerId(contact.who.key),
        state: standing_of(view, contact.contact),
        last_error: last_fault(view, contact.contact),
        addresses: contact.addrs.iter().map(|known| known.addr.socket().to_string()).collect(),
    };
    State {
        at,
        connected: view.counts().up(),
        peers: view.contacts().map(row).collect(),
        bans: view.bans().count(),
    }
}

/// The moment that a text means: RFC 3339, or a span since the beginning.
fn moment(text: &str, began: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    match humantime::parse_duration(text.trim_start_matches('+')) {
        Ok(span) => Ok(began.after(span)),
        Err(_) => Err(Failure::new(Code::Usage, format!("--at {text}: this is no time"))
            .next("write a span such as 90s, or a moment such as 2026-01-29T12:00:00Z")),
    }
}

fn segments(file: &Path) -> Result<Vec<PathBuf>, Failure> {
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(Code::NotFound, format!("there is no {}", file.display()))
                .next("a node records into the folder `journal` of its data folder")
        }
        _ => Failure::failed(format!("{}: {error}", file.display())),
    };
    if !fs::metadata(file).map_err(missing)?.is_dir() {
        return Ok(vec![file.to_owned()]);
    }
    let mut files: Vec<PathBuf> = fs::read_dir(file)
        .map_err(missing)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "pkj"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::new(Code::NotFound, format!("there is no recording in {}", file.display())));
    }
    Ok(files)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let told = |error: std::io::Error| Failure::failed(format!("{}: {error}", file.display()));
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(told)?;
    opened.take(MAX_SEGMENT_BYTES).read_to_end(&mut bytes).map_err(told)?;
    Ok(bytes)
}

fn people(found: &Found, args: &Args) -> String {
    let mut text = String::new();
    for sentence in found.story.iter().flatten() {
        text.push_str(&format!("{}  {}\n", sentence.at, out::clean(&sentence.text)));
    }
    if let Some(state) = &found.state {
        text.push_str(&format!("At {}: {} connected, {} bans\n", state.at, state.connected, state.bans));
        if state.peers.is_empty() {
            text.push_str("No peer was known.\n");
        }
        let mut table = out::table(&["PEER", "STATE", "LAST ERROR", "ADDRESSES"]);
        for row in &state.peers {
            let error = row.last_error.clone().unwrap_or_default();
            table.add_row(vec![row.id.to_string(), row.state.clone(), error, row.addresses.join("\n")]);
        }
        if !state.peers.is_empty() {
            text.push_str(&format!("{table}\n"));
        }
    }
    if args.peer.is_some() && found.story.as_ref().is_some_and(Vec::is_empty) {
        text.push_str("Nothing in this recording is about that peer.\n");
    }
    let span = match (found.from, found.to) {
        (Some(from), Some(to)) => format!(" from {from} to {to}"),
        _ => String::new(),
    };
    let segments =
        if found.segments == 1 { "1 segment".into() } else { format!("{} segments", found.segments) };
    text.push_str(&format!("{} actions in {segments}{span}\n", found.actions));
    if found.cut > 0 {
        text.push_str(&format!(
            "cut short by a crash or a full disk: {}; what was recorded is whole\n",
            found.cut
        ));
    }
    if found.gaps > 0 {
        text.push_str(&format!("{} gaps: between those segments something was not recorded\n", found.gaps));
    }
    match &found.problem {
        None => text.push_str(&format!("every digest is the same, the last is {}\n", found.digest)),
        Some(problem) => text.push_str(&format!("NOT THE SAME: {}\n", out::clean(problem))),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerkeep_core::{
        Action, Addr, Command, CommandId, Config, Core, Effect, End, Fact, Fault, FaultKind, PeerKey, Step,
        Time, Who, journal,
    };

    #[test]
    fn a_time_is_a_span_or_a_moment() {
        let began = Timestamp(1_769_688_000_000);
        assert_eq!(moment("90s", began).expect("a span"), Timestamp(1_769_688_090_000));
        assert_eq!(moment("+1500ms", began).expect("a span"), Timestamp(1_769_688_001_500));
        assert_eq!(moment("2026-01-29T12:00:00Z", began).expect("a moment"), Timestamp(1_769_688_000_000));
        assert_eq!(moment("soon", began).expect_err("neither").code, Code::Usage);
    }

    /// A recording of a node that is asked to keep a peer at an address where nobody answers.
    fn recording(folder: &Path, spoil: bool) -> (PathBuf, PeerId) {
        let key = |byte| PeerKey::ed25519([byte; 32]);
        let who = Who::mesh(key(2));
        let at = Addr::tcp(([192, 0, 2, 7], 7330).into());
        let mut core = Core::new(Config::new(key(1), 5), [7; 32], Time::ZERO).expect("a good configuration");
        let (mut bytes, mut effects) = (Vec::new(), Effects::new());
        journal::begin(&core, 1_769_688_000_000, &mut bytes);
        let want = Command::Want { who, addrs: [at].into_iter().collect(), named: false };
        let mut act = |core: &mut Core, ms, action: Action| {
            journal::append(core.digest(), Time::from_millis(ms), &action, &mut bytes);
            effects.clear();
            core.step(Time::from_millis(ms), &action, &mut effects);
            effects.as_slice().iter().find_map(|effect| match effect {
                Effect::Dial { conn, .. } => Some(*conn),
                _ => None,
            })
        };
        let mut dialled = act(&mut core, 10, Action::Do(CommandId(1), want));
        for ms in [3_000, 4_000] {
            dialled = dialled.or(act(&mut core, ms, Action::Wake));
        }
        let conn = dialled.expect("it is dialled within four seconds");
        let fault = Fault::new(Step::Connect, FaultKind::Refused);
        act(&mut core, 5_000, Action::Saw(Fact::Missed { conn, addr: at, fault }));
        act(&mut core, 5_001, Action::Saw(Fact::Gone { conn, end: End::Fault(fault) }));
        journal::end(core.digest(), &mut bytes);
        if spoil {
            let middle = bytes.len() - 40;
            bytes[middle] ^= 1;
        }
        let file = folder.join("0000000001.pkj");
        fs::write(&file, bytes).expect("write");
        (file, PeerId(who.key))
    }

    fn replayed(file: &Path, at: Option<&str>, peer: Option<PeerId>) -> Found {
        let args = Args { file: file.to_owned(), at: at.map(str::to_owned), peer };
        replay(&segments(file).expect("found"), &args).expect("readable")
    }

    #[test]
    fn a_recording_gives_the_same_digests_and_tells_the_peers_story() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, peer) = recording(folder.path(), false);
        let found = replayed(&file, None, Some(peer));
        assert!(found.digest_match && found.actions >= 4 && found.cut == 0, "{found:?}");
        let told = people(&found, &Args { file, at: None, peer: Some(peer) });
        for part in [
            "it is not known",
            "Somebody asked to keep it connected, at 192.0.2.7:7330",
            "We dial it at 192.0.2.7:7330",
            "nobody listens there",
            "The next attempt is due in",
        ] {
            assert!(told.contains(part), "{part:?} is missing in:\n{told}");
        }
    }

    #[test]
    fn the_state_of_a_moment_is_the_one_before_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, peer) = recording(folder.path(), false);
        let early = replayed(&file, Some("5ms"), None).state.expect("asked for");
        assert!(early.peers.is_empty());
        let late = replayed(folder.path(), Some("10s"), None).state.expect("asked for");
        assert_eq!(late.peers.len(), 1);
        assert_eq!(late.peers[0].id, peer);
        assert!(late.peers[0].state.contains("it is wanted"), "{:?}", late.peers);
        assert!(late.peers[0].last_error.is_some());
    }

    #[test]
    fn fault_k8_a_damaged_or_foreign_recording_is_named_and_never_trusted() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, _) = recording(folder.path(), true);
        let found = replayed(&file, None, None);
        assert!(!found.digest_match && found.problem.is_some(), "{found:?}");
        fs::write(&file, b"GIF89a and more").expect("write");
        assert!(!replayed(&file, None, None).digest_match);
        fs::write(&file, b"").expect("write");
        assert!(!replayed(&file, None, None).digest_match);
    }
}
