//! All tests of the core's public door in one binary: one link instead of one per file, for every build and every
//! mutant. It holds no test but the one that keeps a new file from being forgotten.

mod addresses;
mod admission;
mod banning;
mod before_after;
mod commands;
mod cost;
mod counters;
mod dialling;
mod draining;
mod ending;
mod formats;
mod generations;
mod health;
mod hostile;
mod keeping;
mod lifecycle;
mod limits;
mod looking;
mod meeting;
mod moments;
mod moves;
mod pairs;
mod presets;
mod random;
mod reasons;
mod regressions;
mod regressions_limits;
mod regressions_model;
mod regressions_sim;
mod replace;
mod restarts;
mod rig;
mod rivals;
mod settings;
mod shed;
mod timers;
mod turns;
mod world;

#[test]
fn every_file_beside_this_one_is_part_of_it() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(here).expect("this folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a plain name");
        let line = format!("\nmod {name};\n");
        assert!(name == "it" || include_str!("it.rs").contains(&line), "`mod {name};` is missing in it.rs");
    }
}
