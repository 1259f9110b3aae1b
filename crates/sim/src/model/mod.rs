//! The model checker: every interleaving of a few real cores. It explores; it decides nothing for them.
