//! From the state to a frame: layout, panes, overlays, colours. The only floor that knows ratatui.
//!
//! ```text
//! identity      target, version, role, uptime                     state, interval, mode, time
//! vitals        the same figures in the same place, with trends
//! findings      worst first, two lines
//! panes         one to five, by the size of the screen
//! footer        what works now; or the filter being typed; or a message
//! ```
//!
//! Drawing is a pure function of `&App`. Every text goes through [`Canvas`], which makes it safe for a terminal.

mod canvas;
mod header;
mod layout;
mod many;
mod overlay;
mod panes;
pub mod themes;
mod widgets;

use ratatui::buffer::Buffer;

pub use canvas::Glyphs;
pub use layout::{Class, Layout, layout};
pub use themes::Theme;

use crate::app::{App, Overlay, Role};
use canvas::Canvas;

/// Draws the whole screen into a buffer of the layout's size.
pub fn draw(buffer: &mut Buffer, app: &App, layout: &Layout, theme: &Theme, glyphs: Glyphs) {
    let mut canvas = Canvas::new(buffer, theme, glyphs, app.private);
    if layout.class == Class::TooSmall {
        too_small(&mut canvas, layout);
        return;
    }
    header::identity(&mut canvas, layout, app);
    header::vitals(&mut canvas, layout, app);
    header::findings(&mut canvas, layout, app);
    header::tabs(&mut canvas, layout, app);
    for (pane, area) in &layout.panes {
        panes::draw(&mut canvas, *area, *pane, app, layout);
    }
    layout::separators(&mut canvas, layout);
    header::footer(&mut canvas, layout, app);
    match &app.overlay {
        None => {}
        Some(Overlay::Help(offset)) => overlay::help(&mut canvas, layout, app, *offset),
        Some(Overlay::Detail(detail)) => overlay::detail(&mut canvas, layout, app, detail),
        Some(Overlay::Confirm(confirm)) => overlay::confirm(&mut canvas, layout, confirm),
        Some(Overlay::Many(many)) => many::draw(&mut canvas, layout, many),
        Some(Overlay::Server(offset)) => overlay::server(&mut canvas, layout, app, *offset),
        Some(Overlay::Plan(plan)) => overlay::plan(&mut canvas, layout, app, plan),
        Some(Overlay::Export(place)) => overlay::export(&mut canvas, layout, *place),
        Some(Overlay::Rules(menu)) => many::rules(&mut canvas, layout, app, *menu),
    }
}

fn too_small(canvas: &mut Canvas<'_>, layout: &Layout) {
    let (columns, rows) = layout::MINIMUM;
    let text = format!(
        "dbtriage needs {columns}x{rows}, this is {}x{}; q quits",
        layout.area.width, layout.area.height
    );
    canvas.text(layout.area, Role::Text, &text);
}
