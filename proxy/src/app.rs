//! Wires everything: configuration, the live table, workers, admin, signals, drain.
