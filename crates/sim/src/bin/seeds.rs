//! Runs seeds of simulated worlds on all cores and says which broke a promise. It judges nothing itself.

use peerkeep_sim::{QUIET_THREAD, Scenario, run};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn main() {
    let args: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (from, seeds) = (args[0], args[1]);
    if seeds == 1 {
        let outcome = std::thread::Builder::new()
            .name(QUIET_THREAD.into())
            .spawn(move || run(&Scenario::of(from), true))
            .unwrap()
            .join()
            .unwrap();
        println!("{}\n{:?}", outcome.story, outcome.violation);
        return;
    }
    let next = AtomicU64::new(from);
    let actions = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            std::thread::Builder::new()
                .name(QUIET_THREAD.into())
                .spawn_scoped(scope, || {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= from + seeds {
                            return;
                        }
                        let outcome = run(&Scenario::of(seed), false);
                        actions.fetch_add(outcome.actions, Ordering::Relaxed);
                        if let Some(v) = outcome.violation {
                            println!("{seed}: {} {:?} at {:?} {:.300}", v.what, v.nodes, v.at, v.detail);
                        }
                    }
                })
                .unwrap();
        }
    });
    let s = began.elapsed().as_secs_f64();
    let a = actions.load(Ordering::Relaxed);
    println!("{a} actions, {s} s, {} /s", a as f64 / s);
}
