//! Reading: where the frames are, and their entries one frame after the other. What is damaged is left out, and told.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::writer::recordings;
use crate::recording::{Decoder, Entry, HEADER_BYTES, Header, Opening, SIGNATURE, lines};

/// Bytes that are looked through at a time for the next frame after damage.
const BLOCK: usize = 1 << 16;

/// A frame of one of the files.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    offset: u64,
    header: Header,
    /// Whether bytes before it belong to no whole frame.
    follows_gap: bool,
}

/// A recording that is read.
#[derive(Debug)]
pub struct Reader {
    files: Vec<(PathBuf, File)>,
    frames: Vec<Place>,
    next: usize,
    decoder: Decoder,
    /// What the first opening says.
    pub opening: Opening,
    /// Where its end is cut off, until that was told.
    cut_off: Option<Cut>,
    /// Whether something was missing from the frame before.
    is_cut: bool,
}

/// Something that is missing: damaged frames, or lines that nothing can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// When the frame began.
    pub at: Timestamp,
}

/// The entries of a frame, and what is missing from it.
pub type Read = (Vec<Entry>, Option<Cut>);

impl Reader {
    /// Opens the files of a recording, which may be named in any order. The error says which file, and why.
    pub fn open(paths: &[PathBuf]) -> Result<Self, String> {
        let (mut files, mut of_files) = (Vec::new(), Vec::new());
        for path in paths {
            let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
            let mut file = File::open(path).map_err(failed)?;
            of_files.push(find_frames(&mut file, files.len()).map_err(failed)?);
            files.push((path.clone(), file));
        }
        of_files.sort_by_key(|(frames, _)| frames.first().map(|place| place.header.at));
        let (mut frames, mut is_cut_off): (Vec<Place>, bool) = (Vec::new(), false);
        for (mut of_file, is_cut) in of_files {
            if let Some(first) = of_file.first_mut() {
                first.follows_gap |= is_cut_off;
                is_cut_off = is_cut;
            }
            frames.extend(of_file);
        }
        let cut_off = frames.last().filter(|_| is_cut_off).map(|last| Cut { at: last.header.at });
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let names = names.join(", ");
        if frames.is_empty() {
            return Err(format!("{names}: no recording of dbtriage, or nothing whole in it"));
        }
        let opening = Opening {
            version: 0,
            program: String::new(),
            at: Timestamp::UNIX_EPOCH,
            redacted: false,
            targets: Vec::new(),
        };
        let decoder = Decoder::default();
        let mut reader = Self { files, frames, next: 0, decoder, opening, cut_off, is_cut: false };
        while let Some(read) = reader.read() {
            let (entries, _) = read.map_err(|error| format!("{names}: {error}"))?;
            let opening = entries.into_iter().find_map(|entry| match entry {
                Entry::Opening(opening) => Some(opening),
                Entry::Sample(_) | Entry::Note(_) => None,
            });
            if let Some(opening) = opening {
                reader.opening = opening;
                reader.start_at(0);
                return Ok(reader);
            }
        }
        Err(format!("{names}: damaged: it does not say what was watched"))
    }

    /// When the first and the last frame begin.
    pub fn span(&self) -> (Timestamp, Timestamp) {
        let times = || self.frames.iter().map(|place| place.header.at);
        // The clock may have been set back meanwhile.
        let (first, last) = (times().min(), times().max());
        (first.unwrap_or(Timestamp::UNIX_EPOCH), last.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// The entries of the next frame, and what is missing from it; `None` at the end. The error says why nothing more can
    /// be read.
    pub fn read(&mut self) -> Option<Result<Read, String>> {
        let Some(place) = self.frames.get(self.next).copied() else {
            return Some(Ok((Vec::new(), Some(self.cut_off.take()?))));
        };
        self.next += 1;
        let read = match self.bytes(place).ok().and_then(|frame| lines(&frame).ok()) {
            Some(lines) => self.decoder.read(&lines),
            None => Ok((Vec::new(), 1)),
        };
        Some(match read {
            Ok((entries, lost)) => {
                // What refers to something that is missing is missing with it, and told once.
                let was_cut = std::mem::replace(&mut self.is_cut, lost > 0);
                let is_new = place.follows_gap || (lost > 0 && !was_cut);
                Ok((entries, is_new.then_some(Cut { at: place.header.at })))
            }
            Err(version) => Err(format!(
                "written by a later version of dbtriage (form {version}, this one reads up to {})",
                crate::recording::VERSION
            )),
        })
    }

    /// Goes to where reading can start so long before a moment, and says from when on entries will come.
    pub fn seek(&mut self, at: Timestamp, lead: SignedDuration) -> Timestamp {
        let (_, ends) = self.span();
        let wanted = at.min(ends).checked_sub(lead).unwrap_or(Timestamp::MIN);
        let is_early = |place: &Place| place.header.opens && place.header.at <= wanted;
        self.start_at(self.frames.iter().rposition(is_early).unwrap_or(0));
        self.frames.get(self.next).map_or(at, |place| place.header.at)
    }

    fn start_at(&mut self, frame: usize) {
        self.next = frame;
        self.decoder = Decoder::default();
        self.is_cut = false;
    }

    fn bytes(&mut self, place: Place) -> io::Result<Vec<u8>> {
        let (_, file) = self.files.get_mut(place.file).ok_or(io::ErrorKind::NotFound)?;
        bytes_at(file, place.offset, place.header.length)
    }
}

fn bytes_at(file: &mut File, offset: u64, length: u32) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length.into()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The frames of a file, and whether something follows on them that is none.
fn find_frames(file: &mut File, number: usize) -> io::Result<(Vec<Place>, bool)> {
    let end = file.seek(SeekFrom::End(0))?;
    let (mut frames, mut at, mut follows_gap) = (Vec::new(), 0, false);
    while at < end {
        let header = header_at(file, at)?;
        let offset = at + HEADER_LENGTH;
        let next = header.map(|header| offset + u64::from(header.length)).filter(|next| *next <= end);
        match header.zip(next) {
            // A length that has changed would lead beside the next frame; a header that has changed costs its own only.
            Some((header, next))
                if next == end
                    || header_at(file, next)?.is_some()
                    || lines(&bytes_at(file, offset, header.length)?).is_ok() =>
            {
                frames.push(Place { file: number, offset, header, follows_gap });
                follows_gap = false;
                at = next;
            }
            Some(_) | None => {
                at = find_signature(file, at + 1, end)?;
                follows_gap = true;
            }
        }
    }
    Ok((frames, follows_gap))
}

const HEADER_LENGTH: u64 = HEADER_BYTES as u64;

fn header_at(file: &mut File, at: u64) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER_BYTES];
    file.seek(SeekFrom::Start(at))?;
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Header::parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the next frame begins after some place; the end where there is none.
fn find_signature(file: &mut File, from: u64, end: u64) -> io::Result<u64> {
    let mut at = from;
    let mut block = vec![0; BLOCK + SIGNATURE.len()];
    while at < end {
        file.seek(SeekFrom::Start(at))?;
        let mut read = 0;
        while let Some(rest) = block.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read(rest)? {
                0 => break,
                some => read += some,
            }
        }
        let window = block.get(..read).unwrap_or_default();
        if let Some(place) = window.windows(SIGNATURE.len()).position(|bytes| bytes == SIGNATURE) {
            return Ok(at + u64::try_from(place).unwrap_or_default());
        }
        at += u64::try_from(BLOCK).unwrap_or(u64::MAX);
    }
    Ok(end)
}

/// The files of the newest run that was recorded in a folder.
pub fn newest(folder: &Path) -> Vec<PathBuf> {
    let all = recordings(folder);
    let run = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        name.rsplit_once('-').map(|(run, _)| run.to_owned())
    };
    let Some(last) = all.last().and_then(|path| run(path)) else { return Vec::new() };
    all.into_iter().filter(|path| run(path).as_ref() == Some(&last)).collect()
}
