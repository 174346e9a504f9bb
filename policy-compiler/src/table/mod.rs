//! The compiled lookup table.
