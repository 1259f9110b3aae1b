//! peerkeep.
