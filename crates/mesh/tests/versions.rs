//! Old, new and incompatible versions on real sockets (S1.30): the matrix of section 5 of the protocol's page.

mod common;
use common::*;
use peerkeep_core::FaultKind;
use peerkeep_mesh::Reason;
use peerkeep_net::MeetError;

/// Lowest and highest.
type Range = (u32, u32);

/// Each pair of ranges, and the version that they meet at.
const MATRIX: [(Range, Range, Option<u32>); 9] = [
    ((1, 1), (1, 1), Some(1)),
    ((1, 1), (1, 2), Some(1)),
    ((1, 1), (2, 2), None),
    ((1, 2), (1, 1), Some(1)),
    ((1, 2), (1, 2), Some(2)),
    ((1, 2), (2, 2), Some(2)),
    ((2, 2), (1, 1), None),
    ((2, 2), (1, 2), Some(2)),
    ((2, 2), (2, 2), Some(2)),
];

/// Fault G6.
#[tokio::test]
async fn s1_30_old_new_and_incompatible_versions_meet_as_the_matrix_says() {
    local(async {
        for (ours, theirs, common) in MATRIX {
            let a = Node::with(1, |config| config.versions = ours);
            let b = Node::with(2, |config| config.versions = theirs);
            let (dialled, accepted) = meet(&a, &b).await;
            let Some(version) = common else {
                let Some(MeetError::Declined { code, reason, .. }) = dialled.err() else {
                    panic!("{ours:?} {theirs:?}")
                };
                assert_eq!(code, Reason::Version.code());
                let range = |(low, high)| format!("{low} to {high}");
                assert!(reason.contains(&range(ours)) && reason.contains(&range(theirs)), "{reason}");
                let Some(MeetError::Fault(fault)) = accepted.err() else { panic!("{ours:?} {theirs:?}") };
                assert_eq!(fault.kind, FaultKind::Version);
                continue;
            };
            for up in [dialled, accepted] {
                let up = up.unwrap_or_else(|error| panic!("{ours:?} {theirs:?}: {error:?}"));
                let capabilities: Vec<&str> = up.handle.info().capabilities().collect();
                let expected: &[&str] = if version == 2 { &["exchange", "mail"] } else { &[] };
                assert_eq!((up.handle.info().version, &capabilities[..]), (version, expected));
            }
        }
    })
    .await;
}
