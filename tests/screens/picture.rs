//! A frame as a picture for the README.

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

const CELL_WIDTH: f64 = 8.4;
const CELL_HEIGHT: f64 = 18.0;

/// A frame as a picture: runs of cells of one style, each a text at its place, on a dark ground.
pub(crate) fn svg(buffer: &Buffer) -> String {
    let (width, height) =
        (f64::from(buffer.area.width) * CELL_WIDTH, f64::from(buffer.area.height) * CELL_HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#16191d\"/>\n"
    );
    for (y, row) in buffer.content().chunks(usize::from(buffer.area.width)).enumerate() {
        let mut x = 0;
        while x < row.len() {
            let style = (row[x].fg, row[x].modifier);
            let run = row[x..].iter().take_while(|cell| (cell.fg, cell.modifier) == style).count();
            let content: String = row[x..x + run].iter().map(ratatui::buffer::Cell::symbol).collect();
            run_of_cells(&mut out, x, y, run, &content, style);
            x += run;
        }
    }
    out + "</svg>\n"
}

fn run_of_cells(
    out: &mut String,
    x: usize,
    y: usize,
    run: usize,
    content: &str,
    (fg, modifier): (Color, Modifier),
) {
    let place = |n: usize| f64::from(u32::try_from(n).unwrap());
    let (left, top, width) = (place(x) * CELL_WIDTH, place(y) * CELL_HEIGHT, place(run) * CELL_WIDTH);
    let reversed = modifier.contains(Modifier::REVERSED);
    let color = match fg {
        Color::Red => "#ff6b68",
        Color::Yellow => "#e5b567",
        Color::Green => "#98bb6c",
        Color::Cyan => "#7fb4ca",
        Color::DarkGray => "#7a7f87",
        _ => "#d6d8da",
    };
    if reversed {
        writeln!(out, "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{CELL_HEIGHT}\" fill=\"{color}\"/>").unwrap();
    }
    if content.trim().is_empty() {
        return;
    }
    let escaped = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let weight = if modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let line = if modifier.contains(Modifier::UNDERLINED) { " text-decoration=\"underline\"" } else { "" };
    let fill = if reversed { "#16191d" } else { color };
    writeln!(
        out,
        "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" fill=\"{fill}\" xml:space=\"preserve\"{weight}{line}>{escaped}</text>",
        top + 13.5
    )
    .unwrap();
}
