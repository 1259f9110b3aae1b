//! Many real cores in one simulated world, and the model checker over the same cores. It checks and it measures; it
//! decides nothing for a core and contains no second state machine.

#[cfg(feature = "model")]
pub mod model;
pub mod rng;
