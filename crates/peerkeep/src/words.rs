//! The core's words as people and programs read them: snake_case in JSON, a plain phrase in sentences. Every table is
//! an exhaustive match over the core's enum, so that a new word there does not compile until it has a phrase here.

use peerkeep_core as core;
use serde::{Deserialize, Serialize};

macro_rules! mirror {
    ($(#[$doc:meta])* $name:ident from $core:ty { $($variant:ident = $phrase:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $(#[doc = $phrase] $variant,)*
        }

        impl $name {
            /// Every word, in the core's order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The phrase for sentences.
            pub const fn text(self) -> &'static str {
                match self {
                    $($name::$variant => $phrase,)*
                }
            }
        }

        impl From<$core> for $name {
            fn from(word: $core) -> $name {
                match word {
                    $(<$core>::$variant => $name::$variant,)*
                }
            }
        }

        impl From<$name> for $core {
            fn from(word: $name) -> $core {
                match word {
                    $($name::$variant => <$core>::$variant,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.text())
            }
        }
    };
}

mirror! {
    /// A wire stack.
    Stack from core::StackId {
        Mesh = "mesh",
        Libp2p = "libp2p",
        Bitcoin = "bitcoin",
        Lan = "lan",
    }
}

mirror! {
    /// A limit that admission counts against.
    LimitName from core::Limit {
        Total = "all connections",
        Inbound = "inbound connections",
        Outbound = "outbound connections",
        Pending = "connections being set up",
        PerPeer = "connections with one peer",
        PerIp = "connections with one IP address",
        PerSubnet = "connections with one subnet",
        DialRate = "dials a minute",
        DestinationRate = "dials a minute to one IP address",
        Courtesy = "refusals being explained",
        Contacts = "known peers",
        Bans = "bans",
    }
}

mirror! {
    /// At which step of a connection something happened.
    StepName from core::Step {
        Resolve = "looking up the name",
        Connect = "opening the connection",
        Secure = "securing the connection",
        Hello = "greeting",
        Live = "using the connection",
    }
}

mirror! {
    /// What kind of thing failed.
    ErrorKind from core::FaultKind {
        Refused = "nobody listens there (connection refused)",
        Timeout = "no answer in time",
        Reset = "the other side reset the connection",
        Closed = "the other side closed the connection",
        Unreachable = "no route to that network",
        Resources = "this machine is out of descriptors, ports or memory",
        Name = "the name could not be resolved",
        Secure = "no secure channel could be made",
        Protocol = "the other side does not speak this protocol",
        Network = "the other side belongs to another network",
        Version = "no protocol version in common",
        Identity = "another identity answered than the one expected",
        Declined = "the other side refused us",
        Panic = "a task of ours failed; this is a bug",
        Os = "the operating system reported an error",
    }
}

mirror! {
    /// A class of misbehaviour.
    Misbehaviour from core::Violation {
        Malformed = "bytes that cannot be parsed",
        TooLarge = "a length or count above its limit",
        TooMuch = "more than the rate allows",
        OutOfOrder = "a message that does not fit the state",
        BadProof = "a cryptographic proof that does not hold",
        Lie = "a claim known to be false",
        WrongNetwork = "another network",
        BannedAgent = "an agent the operator has banned",
        StreamAbuse = "streams beyond the caps",
    }
}

mirror! {
    /// Why a connection was closed.
    CloseReason from core::Close {
        Requested = "it was asked for",
        Idle = "nobody used it",
        Replaced = "a newer connection took its place",
        Duplicate = "another connection to the same peer was kept",
        Banned = "the peer is banned",
        Dead = "the other end no longer answers",
        Timeout = "a deadline passed",
        Cancelled = "the attempt was cancelled",
        Violation = "the peer misbehaved",
        Resources = "a limit was lowered or resources ran out",
        Shutdown = "the node is going down",
    }
}

mirror! {
    /// How good a connection is: document 001's five words, worst first.
    ConnectionHealth from core::Grade {
        Critical = "critical",
        Poor = "poor",
        Fair = "fair",
        Good = "good",
        Excellent = "excellent",
    }
}

mirror! {
    /// Where an address came from, least trusted first.
    AddressSource from core::Source {
        Gossip = "another peer said so",
        Told = "the peer itself said so",
        Stored = "remembered from before",
        Named = "named by a person or program",
        Proven = "the peer was met there",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_words_are_snake_case_and_read_back() {
        for &word in LimitName::ALL {
            let json = serde_json::to_string(&word).expect("a word serialises");
            assert!(json.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '"'), "{json}");
            assert_eq!(serde_json::from_str::<LimitName>(&json).expect("and reads back"), word);
        }
        assert_eq!(serde_json::to_string(&ErrorKind::Refused).expect("word"), "\"refused\"");
    }

    #[test]
    fn words_map_to_the_core_and_back() {
        for &word in CloseReason::ALL {
            assert_eq!(CloseReason::from(core::Close::from(word)), word);
        }
        for &word in Stack::ALL {
            assert_eq!(Stack::from(core::StackId::from(word)), word);
        }
    }
}
