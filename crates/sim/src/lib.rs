//! Many real cores in one simulated world, and the model checker over the same cores. It checks and it measures; it
//! decides nothing for a core and contains no second state machine.

mod disk;
mod faults;
mod life;
mod link;
#[cfg(feature = "model")]
pub mod model;
mod node;
mod orders;
pub mod plan;
mod promises;
mod queue;
pub mod rng;
mod run;
pub mod scenario;
mod shrink;
mod story;
mod weather;
mod wire;
mod world;

pub use promises::Violation;
pub use run::{Outcome, QUIET_THREAD, run};
pub use scenario::Scenario;
pub use shrink::shrink;
