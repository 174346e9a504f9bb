//! What both benchmarks say of themselves and draw with.

pub mod machine;
pub mod svg;
