//! The sanitiser: text that came from a server, made safe and of known width for a terminal.
//!
//! Any client can put escape sequences, line breaks or bidirectional overrides into its query or its
//! application name. It must not know what the text means.

mod literals;
mod statement;

use std::borrow::Cow;

pub use literals::{masked, without_password};
pub use statement::{NotExplained, explained};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Stands where something that must not reach the terminal was.
pub const REPLACEMENT: char = '\u{b7}';

/// One line of printable text: white space of any kind becomes a space, other control characters (C0, DEL, C1)
/// become [`REPLACEMENT`], and characters without width of their own (combining marks, joiners, bidirectional
/// overrides, variation selectors) are left out, because terminals disagree about them and columns would slip.
pub fn line(raw: &str) -> Cow<'_, str> {
    if is_clean(raw) {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars() {
        if c.is_whitespace() {
            out.push(' ');
        } else if c.is_control() {
            out.push(REPLACEMENT);
        } else if is_printable(c) {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The text with every run of white space made one space: a statement of several lines as one.
pub fn folded(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for word in raw.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// The lines of a longer text, each made safe like [`line`], keeping its indentation.
pub fn lines(raw: &str) -> impl Iterator<Item = String> + '_ {
    raw.split('\n').map(|row| {
        let body = row.trim_start_matches([' ', '\t']);
        let indent: usize =
            row.chars().take(row.len() - body.len()).map(|c| if c == '\t' { 4 } else { 1 }).sum();
        format!("{}{}", " ".repeat(indent.min(40)), line(body.trim_end()))
    })
}

/// The same JSON with the characters escaped that act on a terminal and that JSON lets stand: DEL, C1 controls and
/// bidirectional overrides, as whoever looks into a log or a report with `cat` hands them to the terminal. Outside its
/// strings JSON has none of them, so the finished text can be gone over.
pub fn terminal_safe_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_bidi_control(c) || ('\u{7f}'..='\u{9f}').contains(&c) {
            out += &format!("\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// The terminal columns that `clean` takes up.
pub fn width(clean: &str) -> usize {
    clean.width()
}

/// As much of `clean` as fits in `columns`, with `…` (or `~` where `ascii`) where something was cut.
pub fn fit(clean: &str, columns: usize, ascii: bool) -> Cow<'_, str> {
    // A column holds one byte at least: most text is short, and this avoids measuring it.
    if clean.len() <= columns || clean.width() <= columns {
        return Cow::Borrowed(clean);
    }
    let Some(room) = columns.checked_sub(1) else { return Cow::Borrowed("") };
    let mut out = String::with_capacity(columns + 3);
    let mut used = 0;
    for c in clean.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        out.push(c);
    }
    out.push(if ascii { '~' } else { '…' });
    Cow::Owned(out)
}

/// The candidate that is most like `word`, if any is alike at all: for "did you mean".
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance * 2 <= candidate.len().max(word.len()))
        .map(|(_, candidate)| candidate)
}

/// The end of a message about an unknown name: what was probably meant.
pub fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(": did you mean \"{name}\"?"))
}

fn is_clean(raw: &str) -> bool {
    raw.bytes().all(|b| (0x20..0x7f).contains(&b))
}

/// Whether a character stands on a terminal as itself: it has a width, and turns nothing round.
pub fn is_printable(c: char) -> bool {
    c.width().is_some_and(|width| width > 0) && !is_bidi_control(c)
}

/// Bidirectional formatting characters (Unicode Annex 9). Most have no width, but not every table agrees.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Breaks a line at its spaces so that each piece is at most so many columns wide; a longer word stands alone.
pub fn wrapped(clean: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in clean.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn escapes_lose_their_power() {
        let cases = [
            ("SELECT 1", "SELECT 1"),
            ("SELECT\n\t  1", "SELECT    1"),
            ("\x1b]52;c;aGk=\x07x", "·]52;c;aGk=·x"),
            ("a\u{9b}31mb", "a·31mb"),
            ("user\u{202e}nimda", "usernimda"),
            ("e\u{301}a\u{200b}b\u{200d}c\u{feff}d", "eabcd"),
            ("日本", "日本"),
        ];
        for (raw, clean) in cases {
            assert_eq!(line(raw), clean);
        }
    }

    #[test]
    fn json_is_the_same_and_safe_to_print() {
        let raw = "a\u{7f}\u{9b}2J\u{202e}\u{2066}\u{61c}\\\"日\n";
        let safe = terminal_safe_json(&serde_json::to_string(raw).unwrap());
        assert_eq!(safe, "\"a\\u007f\\u009b2J\\u202e\\u2066\\u061c\\\\\\\"日\\n\"");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), raw);
    }

    #[test]
    fn statements_fold_into_one_line() {
        assert_eq!(folded(" SELECT\n\t  1 \r\n"), "SELECT 1");
    }

    #[test]
    fn cutting_respects_wide_characters() {
        assert_eq!(fit("日本語", 6, false), "日本語");
        assert_eq!(fit("日本語", 5, false), "日本…");
        assert_eq!(fit("日本語", 4, false), "日…");
        assert_eq!(fit("abc", 0, false), "");
        assert_eq!(fit("abcdef", 4, true), "abc~");
    }

    #[test]
    fn longer_texts_keep_their_lines() {
        let all: Vec<_> = lines("SELECT\n\tone,\n  two\x1b[2J").collect();
        assert_eq!(all, ["SELECT", "    one,", "  two·[2J"]);
    }

    proptest! {
        #[test]
        fn only_printable_text_comes_out(raw in any::<String>()) {
            let clean = line(&raw);
            prop_assert!(clean.chars().all(|c| !c.is_control() && c.width().is_some_and(|w| w > 0)));
        }

        #[test]
        fn nothing_is_wider_than_its_room(raw in any::<String>(), columns in 0_usize..40) {
            let clean = line(&raw);
            prop_assert!(width(&fit(&clean, columns, false)) <= columns);
        }

        #[test]
        fn sanitising_twice_changes_nothing(raw in any::<String>()) {
            let once = line(&raw).into_owned();
            prop_assert_eq!(line(&once), once.as_str());
        }
    }
}
