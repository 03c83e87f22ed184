//! Lines on two logarithmic axes, as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
/// Room at the left, at the top, at the right for the names, and at the bottom.
const MARGINS: [f64; 4] = [60.0, 40.0, 250.0, 45.0];
/// Colours that are told apart also by those who do not see all (Okabe and Ito).
const COLORS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

/// A line and its name.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Sizes, and milliseconds.
    pub(crate) points: Vec<(f64, f64)>,
}

/// The decades that hold all values.
fn decades(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let low = values.clone().fold(f64::MAX, f64::min).log10().floor();
    let high = values.fold(f64::MIN, f64::max).log10().ceil();
    (low, high.max(low + 1.0))
}

/// The picture.
pub(crate) fn plot(title: &str, lines: &[Line]) -> String {
    let [left, top, right, bottom] = MARGINS;
    let all = lines.iter().flat_map(|line| line.points.iter().copied());
    let (first_x, last_x) = decades(all.clone().map(|point| point.0));
    let (first_y, last_y) = decades(all.map(|point| point.1));
    let x_of = |n: f64| left + (n.log10() - first_x) / (last_x - first_x) * (WIDTH - left - right);
    let y_of =
        |ms: f64| HEIGHT - bottom - (ms.log10() - first_y) / (last_y - first_y) * (HEIGHT - top - bottom);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{left}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    let mut add = |piece: String| writeln!(svg, "{piece}").is_ok();
    let grid = "stroke=\"#dddddd\"";
    for x in steps(first_x, last_x) {
        let (n, at) = (10_f64.powf(x), x_of(10_f64.powf(x)));
        add(format!("<line x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{}\" {grid}/>", HEIGHT - bottom));
        add(format!(
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{n}</text>",
            HEIGHT - bottom + 18.0
        ));
    }
    for y in steps(first_y, last_y) {
        let (ms, at) = (10_f64.powf(y), y_of(10_f64.powf(y)));
        add(format!("<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\" {grid}/>", WIDTH - right));
        let text_y = at + 4.0;
        add(format!("<text x=\"{}\" y=\"{text_y:.1}\" text-anchor=\"end\">{ms} ms</text>", left - 6.0));
    }
    for (number, line) in lines.iter().enumerate() {
        let color = COLORS[number % COLORS.len()];
        let place = |(n, ms): &(f64, f64)| format!("{:.1},{:.1}", x_of(*n), y_of(*ms));
        let path: Vec<String> = line.points.iter().map(place).collect();
        let path = path.join(" ");
        add(format!("<polyline points=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"));
        let at = top + 12.0 + 20.0 * number as f64;
        let x = WIDTH - right + 16.0;
        add(format!("<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{color}\"/>", at - 10.0));
        add(format!("<text x=\"{}\" y=\"{at}\">{}</text>", x + 18.0, line.name));
    }
    svg + "</svg>\n"
}

/// Whole numbers from one to another.
fn steps(first: f64, last: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(first), |step| Some(step + 1.0)).take_while(move |step| *step <= last)
}
