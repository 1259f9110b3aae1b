//! A peer's story in plain sentences, told from a replayed journal: what was asked, what happened, what was decided
//! and why. It reads the replayed core and its effects; it decides nothing and changes nothing.

mod words;

use peerkeep::{AddressSource, PeerId, Timestamp, print_target};
use peerkeep_core::journal::Replay;
use peerkeep_core::{
    Action, Answer, Command, CommandId, ConnRef, ContactRef, Direction, Effect, Effects, End, Fact, Standing,
    Target, Time, Told, View, Who, Why,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Longest story in sentences; what comes after is only counted.
const MAX_SENTENCES: usize = 100_000;

/// One sentence and when it happened.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Sentence {
    /// By the wall clock of the recording.
    pub at: Timestamp,
    /// What happened.
    pub text: String,
}

/// Listens to a replay and writes down what concerns one peer.
#[derive(Debug)]
pub struct Story {
    who: Who,
    /// The sentences so far, in order.
    pub sentences: Vec<Sentence>,
    /// Sentences beyond the longest story.
    pub untold: u64,
    standing: Option<Standing>,
    conns: BTreeMap<ConnRef, Direction>,
    /// A command's number and its sentence's place, until its answer is known.
    asked: Option<(CommandId, usize)>,
    /// How a conn of it ended in this step, when an effect tells more.
    ending: Option<End>,
}

impl Story {
    /// The story of a peer from where this segment begins.
    pub fn begin(peer: PeerId, replay: &Replay<'_>) -> Story {
        let mut story = Story {
            who: Who::mesh(peer.key()),
            sentences: Vec::new(),
            untold: 0,
            standing: None,
            conns: BTreeMap::new(),
            asked: None,
            ending: None,
        };
        let view = replay.core.view();
        let at = Timestamp(replay.began_unix_ms);
        let Some(me) = view.find(&story.who) else {
            story.tell(at, "At the beginning of this recording it is not known.".into());
            return story;
        };
        story.standing = view.contact(me).map(|contact| contact.standing);
        story.conns = view
            .conns()
            .filter(|conn| conn.contact == Some(me))
            .map(|conn| (conn.conn, conn.direction))
            .collect();
        let text = format!("At the beginning of this recording it is known, and {}.", standing_of(&view, me));
        story.tell(at, text);
        story
    }

    /// Hears one step: the action, its effects, and the core after it.
    pub fn hear(&mut self, replay: &Replay<'_>, now: Time, action: &Action, effects: &Effects) {
        let view = replay.core.view();
        let at = Timestamp(replay.unix_ms(now));
        let me = view.find(&self.who);
        let before = self.sentences.len();
        self.ending = ending(action, effects, me);
        self.hear_action(&view, at, action, me);
        for effect in effects.as_slice() {
            self.hear_effect(&view, at, now, *effect, me);
        }
        self.asked = None;
        let standing = me.and_then(|me| view.contact(me)).map(|contact| contact.standing);
        if standing != self.standing {
            if let (Some(me), true) = (me, self.sentences.len() == before) {
                self.tell(at, format!("Now {}.", standing_of(&view, me)));
            }
            if standing.is_none() {
                self.tell(at, "It is forgotten.".into());
            }
            self.standing = standing;
        }
        if let Action::Saw(Fact::Gone { conn, .. }) = action {
            self.conns.remove(conn);
        }
    }

    fn hear_action(&mut self, view: &View<'_>, at: Timestamp, action: &Action, me: Option<ContactRef>) {
        match action {
            Action::Do(id, command) => {
                if let Some(text) = self.command(command) {
                    self.asked = Some((*id, self.sentences.len()));
                    self.tell(at, format!("{text}."));
                }
            }
            Action::Saw(fact) => {
                if let Fact::Met { conn, .. } = fact
                    && let (Some(seen), Some(me)) = (view.conn(*conn), me)
                    && seen.contact == Some(me)
                {
                    self.conns.insert(*conn, seen.direction);
                }
                if let Some(text) = self.fact(fact) {
                    self.tell(at, text);
                }
            }
            Action::Wake | Action::Clock { .. } | Action::Network(_) => {}
        }
    }

    /// What somebody asked for, without the answer; nothing when it is about somebody else.
    fn command(&self, command: &Command) -> Option<String> {
        let mine = |who: &Who, text: &str| (*who == self.who).then(|| text.to_owned());
        match command {
            Command::Connect { who, addrs, .. } if *who == self.who => {
                Some(format!("Somebody asked to connect to it at {}", words::addrs(addrs)))
            }
            Command::Want { who, addrs, .. } if *who == self.who => {
                Some(format!("Somebody asked to keep it connected, at {}", words::addrs(addrs)))
            }
            Command::Unwant(who) => mine(who, "Somebody asked to keep it connected no longer"),
            Command::Disconnect(who) => mine(who, "Somebody asked to disconnect it"),
            Command::Cancel(who) => mine(who, "Somebody asked to abandon the attempt"),
            Command::Retry(who) => mine(who, "Somebody asked to try again now"),
            Command::Reset(who) => mine(who, "Somebody asked to forget its attempts and start over"),
            Command::Hold { who, on: true } => {
                mine(who, "Somebody asked to keep its connection however idle")
            }
            Command::Hold { who, on: false } => {
                mine(who, "Somebody asked to treat its connection like any other")
            }
            Command::Forget(who) => mine(who, "Somebody asked to forget it"),
            Command::Replace(who) => mine(who, "Somebody asked to replace its connection"),
            Command::Ban { target, span } => self
                .is_target(target)
                .then(|| format!("Somebody asked to ban {} {}", print_target(target), words::span(*span))),
            Command::Unban(target) => self
                .is_target(target)
                .then(|| format!("Somebody asked to lift the ban of {}", print_target(target))),
            Command::Shutdown => Some("Somebody asked this node to shut down".into()),
            Command::Connect { .. } | Command::Want { .. } | Command::Configure(_) => None,
        }
    }

    fn is_target(&self, target: &Target) -> bool {
        matches!(target, Target::Key(key) if *key == self.who.key)
    }

    /// What happened outside; nothing when it is about somebody else or says nothing to a person.
    fn fact(&self, fact: &Fact) -> Option<String> {
        let mine = |conn: &ConnRef| self.conns.get(conn).copied();
        match fact {
            Fact::Learned { who, addrs, source } if *who == self.who => Some(format!(
                "It is said to be at {} ({}).",
                words::addrs(addrs),
                AddressSource::from(*source)
            )),
            Fact::Resolved { conn, addrs } => {
                mine(conn).map(|_| format!("Its name leads to {}.", words::addrs(addrs)))
            }
            Fact::Missed { conn, addr, fault } => {
                mine(conn).map(|_| format!("{} did not work: {}.", addr.socket(), words::fault(*fault)))
            }
            Fact::Met { conn, at, .. } => mine(conn).map(|direction| match direction {
                Direction::Outbound => {
                    format!("It answered at {} and proved its identity ({conn}).", at.socket())
                }
                Direction::Inbound => {
                    format!("It dialled us from {} and proved its identity ({conn}).", at.socket())
                }
            }),
            Fact::Declined { conn, retry_after, .. } => mine(conn).map(|_| {
                let later = if retry_after.is_zero() {
                    String::new()
                } else {
                    format!(" and asked us to stay away for {}", crate::out::span(*retry_after))
                };
                format!("It refused us{later}.")
            }),
            Fact::Violated { conn, what } => {
                mine(conn).map(|_| format!("It misbehaved: {}.", words::violation(*what)))
            }
            Fact::Gone { conn, end } if self.ending.is_none() => {
                mine(conn).map(|_| format!("Connection {conn} is gone: {}.", words::end(*end)))
            }
            Fact::Recalled { who, failures, wait } if *who == self.who => Some(format!(
                "The store remembered {failures} failed attempts, and {} until the next.",
                crate::out::span(*wait)
            )),
            Fact::Bound { a, b } if *a == self.who || *b == self.who => {
                Some("It was proven to be the same peer as another contact.".into())
            }
            Fact::Routed { conn, .. } => mine(conn).map(|_| "Its bytes take another way.".into()),
            // `Ready` is told by the effect that follows from it; reports are too many and too small.
            Fact::Ready { .. }
            | Fact::Arrived { .. }
            | Fact::Reported { .. }
            | Fact::TurnedAway { .. }
            | Fact::Learned { .. }
            | Fact::Recalled { .. }
            | Fact::Gone { .. }
            | Fact::Bound { .. } => None,
        }
    }

    fn hear_effect(
        &mut self,
        view: &View<'_>,
        at: Timestamp,
        now: Time,
        effect: Effect,
        me: Option<ContactRef>,
    ) {
        let known = |conn: ConnRef| self.conns.contains_key(&conn);
        let text = match effect {
            Effect::Resolve { conn } | Effect::Dial { conn, .. } => {
                let Some(seen) = view.conn(conn) else { return };
                if me.is_none() || seen.contact != me {
                    return;
                }
                self.conns.insert(conn, seen.direction);
                match (effect, view.dial(conn)) {
                    (Effect::Dial { .. }, Some(dial)) => {
                        format!("We dial it at {} ({conn}).", words::addrs(&dial.addrs))
                    }
                    _ => format!("We look up its name ({conn})."),
                }
            }
            Effect::Reply { to, answer } => {
                // What somebody asked for comes before its consequences, and says how it was answered.
                let asked = self.asked.filter(|(id, _)| *id == to);
                if let (Some((_, place)), false) = (asked, matches!(answer, Answer::Done | Answer::Begun(_)))
                    && let Some(sentence) = self.sentences.get_mut(place)
                {
                    sentence.text =
                        format!("{}: {}.", sentence.text.trim_end_matches('.'), words::answer(now, answer));
                }
                return;
            }
            Effect::Admit { conn } if known(conn) => format!("We agree to connection {conn}."),
            Effect::Turn { conn, why } if known(conn) => {
                format!("We refuse connection {conn}: {}.", words::refusal(now, why))
            }
            Effect::Probe { conn } if known(conn) => "It has been silent; we ask for a sign of life.".into(),
            Effect::Close { conn, why, .. } if known(conn) => {
                format!("We close connection {conn}: {}.", words::close(why))
            }
            Effect::Tell { contact, conn, what } if Some(contact) == me => {
                match self.told(view, now, contact, conn, what) {
                    Some(text) => text,
                    None => return,
                }
            }
            _ => return,
        };
        self.tell(at, text);
    }

    fn told(
        &self,
        view: &View<'_>,
        now: Time,
        contact: ContactRef,
        conn: ConnRef,
        what: Told,
    ) -> Option<String> {
        let next = || match view.contact(contact).and_then(|contact| contact.retry_at) {
            Some(time) => format!(" The next attempt is due in {}.", crate::out::span(time - now)),
            None => String::new(),
        };
        Some(match what {
            Told::Discovered => "It became known.".into(),
            Told::Dialing { attempt } => format!("Attempt {attempt} begins."),
            Told::Connected => {
                let by = match self.conns.get(&conn) {
                    Some(Direction::Inbound) => ", dialled by it",
                    Some(Direction::Outbound) => ", dialled by us",
                    None => "",
                };
                format!("It is connected{by} ({conn}).")
            }
            Told::Lost(why) => {
                let how = match self.ending {
                    Some(end @ (End::Fault(_) | End::Violation(_))) => format!(" ({})", words::end(end)),
                    _ => String::new(),
                };
                format!("The connection is lost: {}{how}.{}", words::close(why), next())
            }
            Told::Failed => {
                let fault = view.contact(contact).and_then(|contact| contact.last_fault);
                let why = fault.map_or_else(String::new, |fault| format!(": {}", words::fault(fault)));
                format!("The attempt failed{why}.{}", next())
            }
            Told::GaveUp => "All attempts are used up; it is given up.".into(),
            Told::Banned => "It is banned.".into(),
            Told::Unbanned => "It is no longer banned.".into(),
            Told::Identified { as_contact } => match view.contact(as_contact) {
                Some(identified) => format!("It turned out to be {}.", PeerId(identified.who.key)),
                None => "It turned out to be somebody else.".into(),
            },
            Told::Degraded(grade) => {
                format!("The connection ({conn}) is {}.", peerkeep::ConnectionHealth::from(grade))
            }
            Told::Restored => format!("The connection ({conn}) is good again."),
            Told::Replacing => format!("The connection ({conn}) is being replaced while it goes on."),
            Told::CloneSuspected => "Two machines seem to use its identity.".into(),
            // The fact that led to these has said it.
            Told::Violated(_) | Told::Routed => return None,
        })
    }

    fn tell(&mut self, at: Timestamp, text: String) {
        if self.sentences.len() < MAX_SENTENCES {
            self.sentences.push(Sentence { at, text });
        } else {
            self.untold += 1;
        }
    }
}

/// How the conn of a `Gone` ended, when an effect of the same step tells the peer's loss or failure anyway.
fn ending(action: &Action, effects: &Effects, me: Option<ContactRef>) -> Option<End> {
    let Action::Saw(Fact::Gone { end, .. }) = action else { return None };
    let tells = effects.as_slice().iter().any(|effect| {
        matches!(effect, Effect::Tell { contact, what: Told::Lost(_) | Told::Failed, .. } if Some(*contact) == me)
    });
    tells.then_some(*end)
}

/// Where a contact stands and why, as a clause that begins with "it".
pub fn standing_of(view: &View<'_>, contact: ContactRef) -> String {
    let Some(seen) = view.contact(contact) else { return "it is unknown".into() };
    let wanted = if seen.wanted { "it is wanted" } else { "it is not wanted" };
    let state = match view.why(contact) {
        Why::Connected { conn } => format!("it is connected ({conn})"),
        Why::OnItsWay { conn, stage } => {
            format!("an attempt is under way ({conn}, {stage:?})").to_lowercase()
        }
        Why::Due => "it is due to be dialled".into(),
        Why::Refused(why) => format!("it is not connected because {}", words::refusal(view.now(), why)),
    };
    format!("{wanted}, and {state}")
}

/// What failed last with a contact, as a clause.
pub fn last_fault(view: &View<'_>, contact: ContactRef) -> Option<String> {
    view.contact(contact)?.last_fault.map(words::fault)
}
