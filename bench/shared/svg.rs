//! Elements of a picture.

use std::fmt::Write as _;

/// Appends one element and ends the line.
pub fn put(svg: &mut String, element: &str) {
    assert!(writeln!(svg, "{element}").is_ok(), "a text takes what is written to it");
}

/// A line through points, each with a dot; `dash` is an attribute of the line or nothing.
pub fn curve(svg: &mut String, points: &[(f64, f64)], colour: &str, dash: &str) {
    let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    put(
        svg,
        &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>",
            line.join(" ")
        ),
    );
    for (x, y) in points {
        put(svg, &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"));
    }
}
