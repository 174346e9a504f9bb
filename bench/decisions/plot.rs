//! The decisions as a picture: time over rules, both axes logarithmic, one panel a layout.

use eastwall_bench::svg::{curve, put};

use crate::report::{Report, Row};

const PANEL: (f64, f64) = (400.0, 360.0);
const LEFT: f64 = 70.0;
const TOP: f64 = 70.0;
const GAP: f64 = 40.0;
/// Engine and colour; colours that stay apart for colour-blind eyes.
const ENGINES: [(&str, &str); 4] =
    [("eastwall native", "#0072b2"), ("eastwall istio", "#009e73"), ("linear scan", "#e69f00"), ("cedar", "#d55e00")];

/// The ends of both axes, as powers of ten.
struct Axes {
    rules: (f64, f64),
    nanoseconds: (f64, f64),
}

/// The picture as SVG.
pub(crate) fn draw(report: &Report) -> String {
    let rows = &report.rows;
    let rules = rows.iter().map(|row| row.rules as f64);
    let times =
        rows.iter().flat_map(|row| [Some(row.decision.p50), row.decision.p99]).flatten().map(|ns| ns.max(1) as f64);
    let (lowest, highest) = ends(times);
    let (fewest, most) = ends(rules);
    let axes = Axes {
        rules: (fewest.log10() - 0.15, most.log10() + 0.15),
        nanoseconds: (lowest.log10().floor(), highest.log10().ceil()),
    };
    let (width, height) = (LEFT + 2.0 * PANEL.0 + GAP + 20.0, TOP + PANEL.1 + 90.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    put(
        &mut svg,
        &format!("<text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Time of one decision over the number of rules</text>"),
    );
    let subject =
        "Nanoseconds, reading the clock subtracted. Solid: median. Dashed: p99. Grey: the bars (median, p99).";
    put(&mut svg, &format!("<text x=\"{LEFT}\" y=\"42\" fill=\"#555\">{subject}</text>"));
    for (index, layout) in ["one scope", "100 a scope"].into_iter().enumerate() {
        let left = LEFT + index as f64 * (PANEL.0 + GAP);
        let title = if index == 0 { "all rules in one scope" } else { "100 rules a scope" };
        put(&mut svg, &format!("<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>", TOP - 8.0));
        grid(&mut svg, &axes, left, index == 0);
        for (engine, colour) in ENGINES {
            let of = |row: &&Row| row.engine == engine && row.layout == layout;
            let points = |time: fn(&Row) -> Option<u64>| -> Vec<(f64, f64)> {
                let point = |row: &Row| Some((row.rules as f64, time(row)?.max(1) as f64));
                rows.iter().filter(of).filter_map(point).map(|point| axes.place(left, point)).collect()
            };
            curve(&mut svg, &points(|row| Some(row.decision.p50)), colour, "");
            curve(&mut svg, &points(|row| row.decision.p99), colour, " stroke-dasharray=\"5 4\"");
        }
    }
    for (index, (engine, colour)) in ENGINES.into_iter().enumerate() {
        let (x, y) = (LEFT + index as f64 * 160.0, height - 18.0);
        put(&mut svg, &format!("<rect x=\"{x}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>", y - 6.0));
        put(&mut svg, &format!("<text x=\"{}\" y=\"{y}\">{engine}</text>", x + 20.0));
    }
    svg.push_str("</svg>\n");
    svg
}

impl Axes {
    fn place(&self, left: f64, (rules, nanoseconds): (f64, f64)) -> (f64, f64) {
        let part = |value: f64, (from, to): (f64, f64)| (value.log10() - from) / (to - from);
        (left + PANEL.0 * part(rules, self.rules), TOP + PANEL.1 * (1.0 - part(nanoseconds, self.nanoseconds)))
    }
}

fn grid(svg: &mut String, axes: &Axes, left: f64, has_labels: bool) {
    let (right, bottom) = (left + PANEL.0, TOP + PANEL.1);
    put(
        svg,
        &format!(
            "<rect x=\"{left}\" y=\"{TOP}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#999\"/>",
            PANEL.0, PANEL.1
        ),
    );
    for power in axes.nanoseconds.0 as i32..=axes.nanoseconds.1 as i32 {
        let (_, y) = axes.place(left, (1.0, 10f64.powi(power)));
        put(svg, &format!("<line x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e4e4e4\"/>"));
        if has_labels {
            let label = ["1 ns", "10 ns", "100 ns", "1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"];
            let label = usize::try_from(power).ok().and_then(|power| label.get(power)).copied().unwrap_or("");
            put(svg, &format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", left - 6.0, y + 4.0));
        }
    }
    for bar in [250.0, 1_000.0] {
        let (_, y) = axes.place(left, (1.0, bar));
        put(
            svg,
            &format!(
                "<line x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#888\" stroke-width=\"1.5\" stroke-dasharray=\"1 3\"/>"
            ),
        );
    }
    for power in axes.rules.0.ceil() as i32..=axes.rules.1.floor() as i32 {
        let rules = 10f64.powi(power);
        let (x, _) = axes.place(left, (rules, 1.0));
        put(svg, &format!("<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#e4e4e4\"/>"));
        put(svg, &format!("<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{rules}</text>", bottom + 16.0));
    }
    put(
        svg,
        &format!("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">rules</text>", (left + right) / 2.0, bottom + 34.0),
    );
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 1.0), |(low, high), value| (low.min(value), high.max(value)))
}
