//! Who the two ends of a connection are.
