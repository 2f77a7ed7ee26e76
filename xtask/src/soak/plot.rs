//! The columns over the events, one panel below the other.

use super::{Column, Life};

const WIDTH: f64 = 760.0;
const PANEL: f64 = 110.0;
const LEFT: f64 = 60.0;

pub(super) fn svg(lives: &[Life], columns: &[Column]) -> String {
    let height = PANEL * columns.len() as f64 + 30.0;
    let total = lives.last().map_or(1, |life| life.acknowledged.max(1)) as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n"
    );
    for (index, (name, unit, value, _)) in columns.iter().enumerate() {
        let top = PANEL * index as f64 + 24.0;
        let bottom = top + PANEL - 34.0;
        let most = lives.iter().map(value).fold(1.0, f64::max);
        let points: Vec<String> = lives
            .iter()
            .map(|life| {
                let x = LEFT + (WIDTH - LEFT - 10.0) * life.acknowledged as f64 / total;
                let y = bottom - (bottom - top) * value(life) / most;
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let title = format!("{name} {unit}");
        text += &format!(
            "<text x=\"{LEFT}\" y=\"{:.0}\">{}</text>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{most:.0}</text>\n\
             <text x=\"{:.0}\" y=\"{bottom:.0}\" text-anchor=\"end\">0</text>\n\
             <path d=\"M{LEFT} {top}V{bottom}H{:.0}\" fill=\"none\" stroke=\"#999\"/>\n\
             <polyline points=\"{}\" fill=\"none\" stroke=\"#06c\"/>\n",
            top - 6.0,
            title.trim_end(),
            LEFT - 6.0,
            top + 6.0,
            LEFT - 6.0,
            WIDTH - 10.0,
            points.join(" ")
        );
    }
    text + &format!(
        "<text x=\"{WIDTH}\" y=\"{:.0}\" text-anchor=\"end\">{:.1} million events acknowledged, {} \
         lives</text>\n</svg>\n",
        height - 8.0,
        total / 1e6,
        lives.len()
    )
}
