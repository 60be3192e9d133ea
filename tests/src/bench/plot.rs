//! Bar charts as SVG. A few rectangles and texts do not need a library.

use std::fmt::Write as _;

use super::datapath::Figure;

const WIDTH: f64 = 900.0;
const ROW: f64 = 40.0;
const BAR: f64 = 14.0;
const LABELS: f64 = 260.0;
const TOP: f64 = 60.0;

/// One pair of bars a figure, product above floor, on a logarithmic axis: new flows cost fifty times a hit.
pub(super) fn bars(figures: &[Figure]) -> String {
    let height = TOP + ROW * figures.len() as f64 + 20.0;
    let most = figures
        .iter()
        .flat_map(|f| [f.xvip_ns, f.floor_ns])
        .fold(10.0, f64::max);
    let length = |ns: f64| (ns.max(1.0).ln() / most.ln()).clamp(0.0, 1.0) * (WIDTH - LABELS - 90.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"28\" font-size=\"16\">Nanoseconds a packet, net (logarithmic)</text>\n\
         <rect x=\"{LABELS}\" y=\"38\" width=\"12\" height=\"12\" fill=\"#1b6ca8\"/><text x=\"278\" y=\"49\">xvip</text>\n\
         <rect x=\"330\" y=\"38\" width=\"12\" height=\"12\" fill=\"#b0b7bf\"/>\
         <text x=\"348\" y=\"49\">floor: kernel LRU hash</text>\n"
    );
    for (row, figure) in figures.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"16\" y=\"{:.0}\">{} {} · {}</text>",
            y + 20.0,
            figure.hook,
            figure.family,
            figure.scenario
        );
        for (ns, color, y) in [
            (figure.xvip_ns, "#1b6ca8", y + 2.0),
            (figure.floor_ns, "#b0b7bf", y + 2.0 + BAR),
        ] {
            let end = LABELS + length(ns);
            let _ = writeln!(
                svg,
                "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\">{ns:.1}</text>",
                length(ns),
                end + 5.0,
                y + 11.0
            );
        }
    }
    svg + "</svg>\n"
}
