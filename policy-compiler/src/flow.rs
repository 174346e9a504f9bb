//! A flow as JSON: what `decide`, `explain` and policy tests read.
