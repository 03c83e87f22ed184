//! A stream that is given up as soon as the other side cannot be whom we mean, or says more than is ever needed:
//! the drivers keep all that comes, however much it is.
//!
//! It must not know how the two protocols go on after their first words.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};

use crate::text;

/// As much of a stranger's first words as is repeated, in columns.
const WORDS_MAX: usize = 40;
/// Fewer letters are chance.
const WORDS_MIN: usize = 3;

/// A connection of any kind.
pub(in crate::sources) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How a conversation begins.
pub(in crate::sources) trait Opening: Send + Unpin + 'static {
    /// Notes what we say.
    fn said(&mut self, bytes: &[u8]);

    /// Judges what is heard next; nothing when the other side has hung up.
    fn judge(&mut self, heard: &[u8]) -> Result<(), Fault>;
}

/// Why a stream was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::sources) enum Fault {
    /// Another protocol, with its first words where they are text.
    #[error("it speaks another protocol")]
    Foreign(Option<String>),
    /// It hung up instead of an answer.
    #[error("it hung up without a word")]
    Mute,
    /// The server could not start a process for us, in its own words.
    #[error("{0}")]
    NoProcess(String),
    /// One answer is longer than this many bytes.
    #[error("an answer of more than {} MB was broken off", .0 >> 20)]
    Endless(usize),
}

impl Fault {
    /// Something else than was meant, which began like this.
    pub(in crate::sources) fn foreign(heard: &[u8]) -> Self {
        let first_line = heard.split(u8::is_ascii_control).next().unwrap_or_default();
        let words = str::from_utf8(first_line).ok().map(text::line);
        let words = words.filter(|words| WORDS_MIN <= words.trim().len());
        Self::Foreign(words.map(|words| text::fit(&words, WORDS_MAX, false).into_owned()))
    }
}

/// What a stream may bring and why it ended, shared with whoever opened it.
#[derive(Debug)]
pub(in crate::sources) struct Bound {
    answer_max: AtomicUsize,
    heard_bytes: AtomicUsize,
    fault: OnceLock<Fault>,
}

impl Bound {
    /// An answer may have this many bytes.
    pub(in crate::sources) fn new(answer_max: usize) -> Arc<Self> {
        Arc::new(Self {
            answer_max: AtomicUsize::new(answer_max),
            heard_bytes: AtomicUsize::new(0),
            fault: OnceLock::new(),
        })
    }

    /// From now on an answer may have this many bytes.
    pub(in crate::sources) fn allow(&self, answer_max: usize) {
        self.answer_max.store(answer_max, Ordering::Relaxed);
    }

    /// How many bytes have come so far; it may begin anew at 0.
    pub(in crate::sources) fn heard_bytes(&self) -> usize {
        self.heard_bytes.load(Ordering::Relaxed)
    }

    /// Why the stream was given up, if it was.
    pub(in crate::sources) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    fn break_off(&self, fault: Fault) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self.fault.get_or_init(|| fault).clone())
    }
}

/// A stream under guard.
pub(in crate::sources) struct Guarded<O> {
    /// Buffered, because the first words are looked at before the driver takes them, which it does byte by byte.
    stream: BufReader<Box<dyn Stream>>,
    opening: O,
    bound: Arc<Bound>,
    /// Bytes that came since we said something.
    heard: usize,
}

impl<O> Guarded<O> {
    pub(in crate::sources) fn new(stream: Box<dyn Stream>, opening: O, bound: Arc<Bound>) -> Self {
        Self { stream: BufReader::new(stream), opening, bound, heard: 0 }
    }
}

impl<O: Opening> AsyncRead for Guarded<O> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let heard = ready!(Pin::new(&mut this.stream).poll_fill_buf(context))?;
        if let Err(fault) = this.opening.judge(heard) {
            return Poll::Ready(Err(this.bound.break_off(fault)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let come = buffer.filled().len().saturating_sub(before);
        this.heard = this.heard.saturating_add(come);
        this.bound.heard_bytes.fetch_add(come, Ordering::Relaxed);
        let answer_max = this.bound.answer_max.load(Ordering::Relaxed);
        if answer_max < this.heard {
            return Poll::Ready(Err(this.bound.break_off(Fault::Endless(answer_max))));
        }
        Poll::Ready(Ok(()))
    }
}

impl<O: Opening> AsyncWrite for Guarded<O> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        this.opening.said(bytes);
        this.heard = 0;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
