//! Plots as SVG: horizontal bars with the spread of the rounds, nothing else.

use std::fmt::Write;

use crate::report::{Row, figure};

const WIDTH: f64 = 760.0;
const LABEL: f64 = 250.0;
const VALUE: f64 = 110.0;
const BAR: f64 = 18.0;
const STEP: f64 = 28.0;
const TOP: f64 = 44.0;

/// Bars for these rows, all of one unit, with the names of the systems beside them.
pub(crate) fn bars(title: &str, rows: &[&Row]) -> String {
    let unit = rows.first().map_or("", |row| row.unit);
    let most = rows
        .iter()
        .map(|row| row.max)
        .fold(f64::MIN_POSITIVE, f64::max);
    let room = WIDTH - LABEL - VALUE;
    let height = TOP + STEP * rows.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{} ({})</text>\n",
        escape(title),
        escape(unit),
    );
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + STEP * index as f64;
        let middle = y + BAR / 2.0;
        let [length, low, high] = [row.median, row.min, row.max].map(|value| room * value / most);
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" dominant-baseline=\"middle\">{}</text>\n\
             <rect x=\"{LABEL}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{}\"/>\n\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#222222\" stroke-width=\"1.5\"/>\n\
             <text x=\"{:.1}\" y=\"{middle:.1}\" dominant-baseline=\"middle\">{}</text>\n",
            LABEL - 8.0,
            middle,
            escape(&row.system),
            colour(&row.system),
            LABEL + low,
            LABEL + high,
            LABEL + high.max(length) + 6.0,
            figure(row.median),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn colour(system: &str) -> &'static str {
    if system.starts_with("everpost") {
        "#d9642a"
    } else if system.starts_with("limit") {
        "#9aa5ad"
    } else {
        "#4a7fb0"
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_markup() {
        let row = Row {
            case: "c".into(),
            system: "a <b> & \"c\"".into(),
            median: 2.0,
            min: 1.0,
            max: 4.0,
            unit: "u",
            promise: String::new(),
            rounds: 5,
        };
        let svg = bars("t", &[&row]);
        assert!(svg.contains("a &lt;b&gt; &amp; &quot;c&quot;"), "{svg}");
        assert!(svg.contains("width=\"200.0\""), "half of the room: {svg}");
    }
}
