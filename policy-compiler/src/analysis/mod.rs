//! Check, explain, test: what people ask about policies.

pub mod check;
pub mod diff;
pub mod explain;
pub mod exposure;

pub mod space;
pub mod test;
