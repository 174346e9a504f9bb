//! The reference interpreter: slow, obviously right, the oracle that the table is tested against.
