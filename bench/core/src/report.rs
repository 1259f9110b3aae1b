//! Shows the figures: a table for people, one line of JSON for programs. It refuses to judge them.

use serde_json::json;

use crate::{Args, Size};

/// How the figures came about.
pub fn method(args: &Args) -> String {
    format!(
        "One thread, one core state per size. Every contact has a key and two addresses, {bans} keys and {bans} subnets are banned, \
         all limits are on, {connected} connections are up at every size. A made-up world first lives against one core and its \
         actions are kept (commands, inbound and outbound lives with failures, reports, addresses learnt, bans, wakes; contacts drawn \
         evenly from all); a second core with the same start is then timed on the same actions: for each one {journal}step \
         and digest. {rounds} rounds of {actions} actions, medians; the two cores must end with the same digest. Bytes per \
         known peer are live heap bytes after all are known, by a counting allocator, the core's own included, divided by their \
         number; the largest of the sizes from 100,000 up counts. Checkpoints, which begin a journal segment, are timed apart.",
        journal = if args.no_journal { "(journal left out) " } else { "journal encoding, " },
        bans = crate::world::BANS,
        connected = args.connected,
        rounds = args.rounds,
        actions = args.actions,
    )
}

/// One object on one line.
pub fn json(args: &Args, sizes: &[Size]) -> String {
    let whole = json!({
        "actions_per_second_100k": at(sizes, 100_000).map(|size| (1e9 / size.ns_per_action).round()),
        "cost_ratio_1k_to_1m": ratio(sizes),
        "bytes_per_known_peer": bytes(sizes),
        "sizes": sizes,
        "method": method(args),
    });
    whole.to_string()
}

/// A line per size.
pub fn table(args: &Args, sizes: &[Size]) -> String {
    let mut text = format!(
        "{:>10} {:>12} {:>14} {:>12} {:>12} {:>14} {:>15}",
        "contacts", "ns/action", "actions/s", "bytes/peer", "allocs/act", "checkpoint ms", "checkpoint KiB"
    );
    for size in sizes {
        text.push_str(&format!(
            "\n{:>10} {:>12.0} {:>14.0} {:>12.1} {:>12.5} {:>14.1} {:>15.0}",
            size.contacts,
            size.ns_per_action,
            1e9 / size.ns_per_action,
            size.bytes_per_peer,
            size.allocations_per_action,
            size.checkpoint_ms,
            size.checkpoint_bytes as f64 / 1024.0,
        ));
    }
    if let Some(ratio) = ratio(sizes) {
        text.push_str(&format!("\n\ncost of an action, 1,000 to 1,000,000 contacts: {ratio:.2} times"));
    }
    for size in sizes {
        text.push_str(&format!(
            "\n\nat {} contacts, {} up at the end, per mille of the actions:",
            size.contacts, size.up
        ));
        for (kind, share) in &size.mix {
            text.push_str(&format!(" {kind} {share}"));
        }
    }
    format!("{text}\n\nMethod. {}", method(args))
}

fn at(sizes: &[Size], contacts: u64) -> Option<&Size> {
    sizes.iter().find(|size| size.contacts == contacts)
}

fn ratio(sizes: &[Size]) -> Option<f64> {
    Some(at(sizes, 1_000_000)?.ns_per_action / at(sizes, 1_000)?.ns_per_action)
}

fn bytes(sizes: &[Size]) -> Option<f64> {
    let many = sizes.iter().filter(|size| size.contacts >= 100_000);
    many.map(|size| size.bytes_per_peer).max_by(f64::total_cmp)
}
