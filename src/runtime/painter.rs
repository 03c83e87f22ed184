//! The thread that writes to the terminal. A terminal may stop reading for as long as it likes (a slow link, a
//! scrolled-back tmux): then this thread waits, the loop goes on, and of the frames that come meanwhile only the
//! newest is kept.
//!
//! It must not know what is in a frame.

mod difference;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossterm::cursor::Hide;
use crossterm::queue;
use crossterm::style::{Attribute, SetAttribute};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::sync::watch;

use crate::terminal;

/// The name of the thread, by which the panic hook knows it.
pub(super) const THREAD: &str = "painter";
/// A write that is begun cannot be called back: so much goes out at a time.
const WRITE_BYTES: usize = 16 * 1024;

/// What the terminal shows by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The frame of this number, or a newer one.
    Shown(u64),
    /// The terminal is gone.
    Gone,
    /// A bug has ended the drawing.
    Failed,
}

/// A frame to be shown.
#[derive(Debug)]
struct Frame {
    number: u64,
    buffer: Buffer,
    /// Whether somebody waits to be told when it is on the screen: telling wakes the loop.
    is_awaited: bool,
}

/// What is to be written next.
#[derive(Debug, Default)]
struct Wanted {
    /// The newest frame.
    frame: Option<Frame>,
    /// A frame that is not needed any more: the next is drawn into it. Half a megabyte each is too much to be taken from
    /// the allocator and given back all the time.
    spare: Option<Buffer>,
    /// Whether the terminal holds something else than the frame before.
    unknown: bool,
    /// What goes out beside frames: a copy to the clipboard.
    aside: Vec<u8>,
    /// Whether a write is under way.
    is_busy: bool,
    /// Nothing more is written.
    is_closed: bool,
}

type Desk = Arc<(Mutex<Wanted>, Condvar)>;

/// The handle of the thread.
#[derive(Debug)]
pub(super) struct Painter {
    desk: Desk,
    last: u64,
    /// The newest frame, where somebody waits to be told when it is on the screen.
    awaited: Option<u64>,
    progress: watch::Receiver<Progress>,
}

fn lock(desk: &Desk) -> MutexGuard<'_, Wanted> {
    desk.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Painter {
    /// Starts the thread on standard output.
    pub(super) fn start() -> io::Result<Self> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let desk = Desk::default();
        let (sender, progress) = watch::channel(Progress::Shown(0));
        std::thread::Builder::new().name(THREAD.into()).spawn({
            let desk = Arc::clone(&desk);
            move || {
                let ended = catch_unwind(AssertUnwindSafe(|| paint(&out, &desk, &sender)));
                if let Ok(Err(error)) = &ended {
                    tracing::info!("the terminal is gone: {error}");
                }
                lock(&desk).is_busy = false;
                desk.1.notify_all();
                sender.send_replace(if ended.is_ok() { Progress::Gone } else { Progress::Failed });
            }
        })?;
        Ok(Self { desk, last: 0, awaited: None, progress })
    }

    /// An empty frame to draw into.
    pub(super) fn blank(&self, area: Rect) -> Buffer {
        let spare = lock(&self.desk).spare.take();
        match spare {
            Some(mut spare) if spare.area == area => {
                spare.reset();
                spare
            }
            Some(_) | None => Buffer::empty(area),
        }
    }

    /// Hands over a frame; one that has not been begun yet is dropped for it.
    pub(super) fn show(&mut self, buffer: Buffer, is_awaited: bool) {
        self.last += 1;
        self.awaited = is_awaited.then_some(self.last);
        let mut wanted = lock(&self.desk);
        if let Some(dropped) = wanted.frame.replace(Frame { number: self.last, buffer, is_awaited }) {
            wanted.spare = Some(dropped.buffer);
        }
        self.desk.1.notify_all();
    }

    /// The next frame is written whole.
    pub(super) fn forget(&self) {
        lock(&self.desk).unknown = true;
    }

    /// Writes something that is no frame, between two of them.
    pub(super) fn write_aside(&self, bytes: &[u8]) {
        lock(&self.desk).aside.extend_from_slice(bytes);
        self.desk.1.notify_all();
    }

    /// Waits until the newest frame is on the screen, if that is awaited, which is told once: true. False when the terminal
    /// is gone.
    pub(super) async fn shown(&mut self) -> bool {
        let awaited = self.awaited.map(Progress::Shown);
        let is_told = |progress: &Progress| {
            matches!(progress, Progress::Gone | Progress::Failed) || Some(*progress) == awaited
        };
        let progress = self.progress.wait_for(is_told).await.map_or(Progress::Gone, |progress| *progress);
        self.awaited = None;
        matches!(progress, Progress::Shown(_))
    }

    /// Whether a bug has ended it.
    pub(super) fn has_panicked(&self) -> bool {
        *self.progress.borrow() == Progress::Failed
    }

    /// Writes nothing more; what is under way has until the limit of the terminal to end.
    pub(super) fn close(&self) {
        let mut wanted = lock(&self.desk);
        wanted.is_closed = true;
        self.desk.1.notify_all();
        let ended = |wanted: MutexGuard<'_, Wanted>| {
            drop(self.desk.1.wait_timeout_while(wanted, terminal::WRITE_LIMIT, |wanted| wanted.is_busy));
        };
        ended(wanted);
        if lock(&self.desk).is_busy {
            terminal::discard_output();
            ended(lock(&self.desk));
        }
    }
}

/// Writes what is wanted until nothing more is.
fn paint(mut out: &File, desk: &Desk, progress: &watch::Sender<Progress>) -> io::Result<()> {
    let mut shown = Buffer::default();
    let mut bytes = Vec::new();
    loop {
        let (frame, aside, unknown) = {
            let mut wanted = lock(desk);
            wanted.is_busy = false;
            if wanted.is_closed {
                desk.1.notify_all();
            }
            let idle =
                |wanted: &mut Wanted| wanted.frame.is_none() && wanted.aside.is_empty() && !wanted.is_closed;
            let mut wanted = desk.1.wait_while(wanted, idle).unwrap_or_else(PoisonError::into_inner);
            wanted.is_busy = true;
            let unknown = wanted.frame.is_some() && std::mem::take(&mut wanted.unknown);
            (wanted.frame.take(), std::mem::take(&mut wanted.aside), unknown)
        };
        // What was said to be copied is copied, also at the end.
        out.write_all(&aside)?;
        bytes.clear();
        if let Some(Frame { buffer: frame, .. }) = &frame {
            let is_new = unknown || shown.area != frame.area;
            if is_new {
                shown.resize(frame.area);
                shown.reset();
            }
            encode(&mut bytes, &shown, frame, is_new)?;
        }
        for (number, chunk) in bytes.chunks(WRITE_BYTES).enumerate() {
            if lock(desk).is_closed {
                if number > 0 {
                    terminal::note_cut();
                }
                return Ok(());
            }
            out.write_all(chunk)?;
        }
        if lock(desk).is_closed {
            return Ok(());
        }
        if let Some(Frame { number, buffer, is_awaited }) = frame {
            lock(desk).spare = Some(std::mem::replace(&mut shown, buffer));
            progress.send_if_modified(|progress| {
                *progress = Progress::Shown(number);
                is_awaited
            });
        }
    }
}

/// What turns one frame into the next; nothing at all when they do not differ, unless all is to be written anew.
fn encode(bytes: &mut Vec<u8>, shown: &Buffer, frame: &Buffer, is_new: bool) -> io::Result<()> {
    let begins = bytes.len();
    queue!(bytes, BeginSynchronizedUpdate)?;
    if is_new {
        queue!(bytes, Hide, SetAttribute(Attribute::Reset), Clear(ClearType::All))?;
    }
    let differs = bytes.len();
    difference::append(bytes, shown, frame);
    if bytes.len() == differs && !is_new {
        bytes.truncate(begins);
        return Ok(());
    }
    queue!(bytes, EndSynchronizedUpdate)
}
