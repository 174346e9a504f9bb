//! The figures as pictures.

use std::fmt::Write as _;

use eastwall_bench::svg::{curve, put};

use crate::spread::Spread;

/// One line of a chart of bars.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) colour: &'static str,
    pub(crate) spread: Spread,
    /// Behind the figure.
    pub(crate) note: String,
}

/// One curve of a chart over the number of rules.
pub(crate) struct Curve {
    pub(crate) label: String,
    pub(crate) colour: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 900.0;
const LEFT: f64 = 170.0;
/// Room for the figure behind the longest bar.
const RIGHT: f64 = 210.0;

/// Bars from zero, with their quartiles as whiskers.
pub(crate) fn bars(bars: &[Bar], unit: &str) -> String {
    let most = bars.iter().map(|bar| bar.spread.high).fold(f64::MIN_POSITIVE, f64::max);
    let height = bars.len() as f64 * 28.0 + 8.0;
    let mut svg = open(WIDTH, height);
    for (index, Bar { label, colour, spread, note }) in bars.iter().enumerate() {
        let (middle, scale) = (index as f64 * 28.0 + 18.0, (WIDTH - LEFT - RIGHT) / most);
        let Spread { median, low, high } = *spread;
        put(
            &mut svg,
            &format!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>", LEFT - 10.0, middle + 4.0),
        );
        put(
            &mut svg,
            &format!(
                "<rect x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"18\" fill=\"{colour}\"/>",
                middle - 9.0,
                median * scale
            ),
        );
        let (from, to) = (LEFT + low * scale, LEFT + high * scale);
        put(
            &mut svg,
            &format!(
                "<path d=\"M{from:.1} {0}v8M{from:.1} {middle}H{to:.1}M{to:.1} {0}v8\" stroke=\"#222\" fill=\"none\"/>",
                middle - 4.0
            ),
        );
        put(
            &mut svg,
            &format!(
                "<text x=\"{:.1}\" y=\"{}\">{} {unit}{note}</text>",
                to.max(LEFT) + 8.0,
                middle + 4.0,
                short(median)
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Curves over the number of rules, both axes logarithmic, each named at its end.
pub(crate) fn curves(curves: &[Curve], unit: &str) -> String {
    const HEIGHT: f64 = 340.0;
    const BOTTOM: f64 = HEIGHT - 44.0;
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::MIN_POSITIVE), |(low, high), value| (value.min(low), value.max(high)))
    };
    let (fewest, most) = ends(&mut points().map(|point| point.0));
    let (lowest, highest) = ends(&mut points().map(|point| point.1));
    let (low, high) = (lowest.log10().floor(), highest.log10().ceil().max(lowest.log10().floor() + 1.0));
    let x = |rules: f64| {
        let whole = (most / fewest).log10().max(1.0);
        70.0 + (WIDTH - 70.0 - RIGHT) * (rules / fewest).log10() / whole
    };
    let y = |value: f64| BOTTOM - (BOTTOM - 12.0) * (value.log10() - low) / (high - low);
    let mut svg = open(WIDTH, HEIGHT);
    for power in low as i32..=high as i32 {
        for step in [1.0, 2.0, 5.0] {
            let value = 10f64.powi(power) * step;
            if value > 10f64.powf(high) {
                continue;
            }
            let at = y(value);
            let (colour, from, to) = (if step == 1.0 { "#bbb" } else { "#e8e8e8" }, x(fewest), x(most));
            put(&mut svg, &format!("<path d=\"M{from:.1} {at:.1}H{to:.1}\" stroke=\"{colour}\"/>"));
            put(
                &mut svg,
                &format!(
                    "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{} {unit}</text>",
                    from - 8.0,
                    at + 4.0,
                    short(value)
                ),
            );
        }
    }
    let mut sizes: Vec<f64> = points().map(|point| point.0).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    sizes.dedup();
    for rules in sizes {
        let at = x(rules);
        put(
            &mut svg,
            &format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{rules} rules</text>", BOTTOM + 22.0),
        );
    }
    // Names that would lie upon each other are moved apart, from below.
    let mut names: Vec<(f64, &Curve)> =
        curves.iter().filter_map(|each| Some((y(each.points.last()?.1), each))).collect();
    names.sort_unstable_by(|left, right| right.0.total_cmp(&left.0));
    let mut free = f64::INFINITY;
    for (at, each) in names {
        let placed: Vec<(f64, f64)> = each.points.iter().map(|point| (x(point.0), y(point.1))).collect();
        curve(&mut svg, &placed, each.colour, "");
        free = at.min(free - 16.0);
        let (rules, value) = each.points.last().copied().unwrap_or_default();
        let Curve { label, colour, .. } = each;
        put(
            &mut svg,
            &format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{label} {} {unit}</text>",
                x(rules) + 10.0,
                free + 4.0,
                short(value)
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn open(width: f64, height: f64) -> String {
    let mut svg = String::new();
    let written = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">"
    );
    assert!(written.is_ok(), "a text takes what is written to it");
    svg
}

/// Three digits or more; a dash where a run was too short to tell.
pub(crate) fn short(number: f64) -> String {
    if !number.is_finite() {
        return "-".to_owned();
    }
    let places = match number {
        number if number >= 100.0 => 0,
        number if number >= 10.0 => 1,
        number if number >= 0.1 => 2,
        _ => 3,
    };
    format!("{number:.places$}")
}
