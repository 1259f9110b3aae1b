//! Orders to a daemon, given by several clients at once until it is killed, and what is known of each: a yes binds the
//! daemon, no answer leaves both open.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Random;
use super::daemon::{Daemon, ask};

/// Clients that give orders at once, and what each gives them about.
const CLIENTS: u32 = 4;
const SUBJECTS: u32 = 40;

/// What an order is about: it is on or off.
#[derive(Clone, Debug, PartialEq)]
struct Subject {
    kind: Kind,
    name: String,
    on: bool,
    /// An order about it got no answer.
    open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Ban,
    Want,
}

/// All subjects, by client.
pub struct Ledger {
    clients: Vec<Vec<Subject>>,
    acknowledged: u64,
}

impl Ledger {
    pub fn new() -> Ledger {
        let subject = |client: u32, number: u32| {
            let all = client * SUBJECTS + number;
            let (kind, name) = match number % 2 {
                0 => (Kind::Ban, format!("198.51.{}.{}", all / 250, 1 + all % 250)),
                // The first of the stored peers.
                _ => (Kind::Want, peer(all)),
            };
            Subject { kind, name, on: false, open: false }
        };
        let clients =
            (0..CLIENTS).map(|client| (0..SUBJECTS).map(|number| subject(client, number)).collect());
        Ledger { clients: clients.collect(), acknowledged: 0 }
    }

    /// Orders that were answered with yes.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Gives orders until the daemon is killed, which happens so long after the first yes.
    pub fn order_until_killed(
        &mut self,
        daemon: &mut Daemon,
        random: &mut Random,
        after: Duration,
    ) -> Result<()> {
        let (said_yes, first_yes) = mpsc::sync_channel(1);
        let socket = daemon.socket();
        let (yes, killed) = thread::scope(|scope| {
            let workers: Vec<_> = self
                .clients
                .iter_mut()
                .map(|subjects| {
                    let (socket, said_yes, seed) = (socket.clone(), said_yes.clone(), random.next());
                    scope.spawn(move || order(subjects, &socket, Random(seed), &said_yes))
                })
                .collect();
            let first = first_yes.recv_timeout(Duration::from_secs(20));
            thread::sleep(after);
            let killed = daemon.kill().and(first.context("no order was answered"));
            (workers.into_iter().map(|worker| worker.join().unwrap_or(0)).sum::<u64>(), killed)
        });
        self.acknowledged += yes;
        killed
    }

    /// What was answered with yes and is not so. What was open is taken as it is now.
    pub fn compare(&mut self, daemon: &Daemon) -> Result<Vec<String>> {
        let listed = daemon.get("/v1/bans")?;
        let bans: HashSet<&str> = listed
            .as_array()
            .context("no list of bans")?
            .iter()
            .filter_map(|ban| ban["target"].as_str())
            .collect();
        let mut missing = Vec::new();
        for subject in self.clients.iter_mut().flatten() {
            let is_on = match subject.kind {
                Kind::Ban => bans.contains(subject.name.as_str()),
                Kind::Want => is_wanted(daemon, &subject.name)?,
            };
            if !subject.open && is_on != subject.on {
                let (was, is) = (word(subject.on), word(is_on));
                missing.push(format!("{:?} of {} was {was} and is {is}", subject.kind, subject.name));
            }
            (subject.on, subject.open) = (is_on, false);
        }
        Ok(missing)
    }
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn is_wanted(daemon: &Daemon, id: &str) -> Result<bool> {
    let peer = daemon.get(&format!("/v1/peers/{id}"))?;
    match peer["wanted"] {
        Value::Bool(wanted) => Ok(wanted),
        _ => bail!("an odd answer about {id}: {peer}"),
    }
}

/// One client: the number of its orders that were answered with yes before the daemon was gone.
fn order(
    subjects: &mut [Subject],
    socket: &PathBuf,
    mut random: Random,
    said_yes: &mpsc::SyncSender<()>,
) -> u64 {
    let mut yes = 0;
    loop {
        let place = usize::try_from(random.below(u64::from(SUBJECTS))).unwrap_or(0);
        let Some(subject) = subjects.get_mut(place) else { return yes };
        let (path, body) = match (subject.kind, subject.on) {
            (Kind::Ban, false) => ("/v1/bans", json!({ "target": subject.name })),
            (Kind::Ban, true) => ("/v1/unban", json!({ "target": subject.name })),
            (Kind::Want, false) => ("/v1/want", json!({ "peer": subject.name })),
            (Kind::Want, true) => ("/v1/unwant", json!({ "peer": subject.name })),
        };
        if ask(socket, "POST", path, &body.to_string()).is_err() {
            subject.open = true;
            return yes;
        }
        subject.on = !subject.on;
        yes += 1;
        let _ = said_yes.try_send(());
    }
}

/// The identity of a stored peer: of the right form, and nobody's.
pub fn peer(number: u32) -> String {
    let mut bytes = vec![0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
    let mut random = Random(u64::from(number));
    (0..4).for_each(|_| bytes.extend(random.next().to_be_bytes()));
    base58(&bytes)
}

/// Where it is said to be: a place of this machine where nobody listens.
pub fn address(number: u32) -> String {
    let [_, high, middle, low] = (number + 256).to_be_bytes();
    format!("/ip4/127.{high}.{middle}.{low}/tcp/9")
}

fn base58(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    // Digits of the number, the lowest first.
    let mut digits: Vec<u32> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += *digit << 8;
            *digit = carry % 58;
            carry /= 58;
        }
        while carry > 0 {
            digits.push(carry % 58);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = digits.iter().rev().filter_map(|digit| ALPHABET.get(usize::try_from(*digit).ok()?));
    let letters = std::iter::repeat_n(&ALPHABET[0], zeros).chain(digits);
    letters.map(|letter| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_and_places_are_of_the_form_the_daemon_takes() {
        assert_eq!(base58(b"\0\0hello"), "11Cn8eVZg");
        let all: HashSet<String> = (0..1_000).map(peer).collect();
        assert_eq!(all.len(), 1_000);
        for id in &all {
            id.parse::<peerkeep::PeerId>().unwrap();
        }
        let places: HashSet<String> = (0..100_000).map(address).collect();
        assert_eq!(places.len(), 100_000);
        address(99_999).parse::<peerkeep::PeerAddress>().unwrap();
    }

    #[test]
    fn nothing_is_ordered_about_one_subject_by_two() {
        let ledger = Ledger::new();
        let names: HashSet<&str> =
            ledger.clients.iter().flatten().map(|subject| subject.name.as_str()).collect();
        assert_eq!(names.len() as u32, CLIENTS * SUBJECTS);
    }
}
