//! Figures for people: ages, bytes, rates and shares in one style, short enough for a table cell.
//!
//! Pure functions from numbers to text. It must not know where the numbers come from.

use jiff::Timestamp;

use crate::text;

/// An age as two units at most: `59s`, `8m12s`, `3h05m`, `41d`. Negative ages (clocks differ) read `0s`.
pub fn age(seconds: f64) -> String {
    let seconds = whole(seconds.max(0.0));
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days >= 2 {
        format!("{days}d")
    } else if hours >= 1 {
        format!("{hours}h{:02}m", minutes % 60)
    } else if minutes >= 1 {
        format!("{minutes}m{:02}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// Seconds from `then` to `now`; negative when `then` lies ahead.
pub fn seconds_between(then: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(then).as_secs_f64()
}

/// The age of `then` at `now`.
pub fn age_at(then: Timestamp, now: Timestamp) -> String {
    age(seconds_between(then, now))
}

/// A short time with its unit: `0.04ms`, `1.3ms`, `41ms`, `8.01s`, `12m03s`.
pub fn duration_ms(ms: f64) -> String {
    if ms < 0.995 {
        format!("{ms:.2}ms")
    } else if ms < 9.95 {
        format!("{ms:.1}ms")
    } else if ms < 1000.0 {
        format!("{ms:.0}ms")
    } else if ms < 100_000.0 {
        format!("{:.2}s", ms / 1000.0)
    } else {
        age(ms / 1000.0)
    }
}

/// Bytes in the server's units (1 kB = 1024 B), three digits at most: `0 B`, `12 MB`, `3.98 GB`.
pub fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if value.abs() < 1024.0 {
        return format!("{value:.0} B");
    }
    let mut scaled = value / 1024.0;
    let mut unit = UNITS[0];
    for next in UNITS.into_iter().skip(1) {
        if scaled.abs() < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    if scaled.abs() < 10.0 { format!("{scaled:.1} {unit}") } else { format!("{scaled:.0} {unit}") }
}

/// A count or a rate: `0`, `3.9`, `412`, `1.2k`, `18k`, `2.4M`. Small but not zero reads `<0.1`.
pub fn count(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if size < 0.1 {
        "<0.1".into()
    } else if size < 10.0 && value.fract() != 0.0 {
        format!("{value:.1}")
    } else if size < 1000.0 {
        format!("{value:.0}")
    } else if size < 10_000.0 {
        format!("{:.1}k", value / 1e3)
    } else if size < 1e6 {
        format!("{:.0}k", value / 1e3)
    } else if size < 1e7 {
        format!("{:.1}M", value / 1e6)
    } else {
        format!("{:.0}M", value / 1e6)
    }
}

/// A share of one as per cent: `99.1%`; `100%` only when it is whole.
pub fn share(ratio: f64) -> String {
    if ratio >= 1.0 {
        "100%".into()
    } else {
        // Cut instead of rounding: 99.97 % is not "100.0%".
        format!("{:.1}%", (ratio * 1000.0).floor() / 10.0)
    }
}

/// The time of day in UTC, as logs have it: `16:02:11Z`.
pub fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

/// RFC 3339 in UTC with milliseconds, as the snapshot contract asks.
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// RFC 3339 in UTC with microseconds, which is as exact as the server is.
pub fn rfc3339_micros(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// `1 session`, `2 sessions`: a count with its noun in the right number.
pub fn counted(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to be positive; ages fit"
)]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

/// A text as it stands in SQL; what acts on a terminal as an escape (manual, "String Constants with C-Style Escapes").
pub fn literal(raw: &str) -> String {
    if raw.chars().all(text::is_printable) {
        return format!("'{}'", raw.replace('\'', "''"));
    }
    let mut out = String::from("E'");
    for c in raw.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            c if text::is_printable(c) => out.push(c),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('\'');
    out
}

/// Reserved words that people call roles and schemas by (manual, "SQL Key Words").
const RESERVED: [&str; 16] = [
    "all",
    "analyse",
    "analyze",
    "any",
    "current_role",
    "current_user",
    "default",
    "end",
    "group",
    "order",
    "primary",
    "select",
    "session_user",
    "table",
    "user",
    "when",
];

/// A name as it stands in SQL: quoted where it must be (manual, "Identifiers and Key Words").
pub fn identifier(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain && !RESERVED.contains(&name) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn names_and_texts_stand_in_sql_as_they_must() {
        for (name, sql) in [
            ("oncall", "oncall"),
            ("user", "\"user\""),
            ("On Call", "\"On Call\""),
            ("a\"b", "\"a\"\"b\""),
            ("1st", "\"1st\""),
        ] {
            assert_eq!(identifier(name), sql);
        }
        for (text, sql) in [("it's", "'it''s'"), ("a\\b", "'a\\b'"), ("\u{1b}]'\\", "E'\\U0000001b]''\\\\'")]
        {
            assert_eq!(literal(text), sql);
        }
    }

    #[test]
    fn ages_have_two_units_at_most() {
        let cases = [
            (-3.0, "0s"),
            (0.4, "0s"),
            (59.9, "59s"),
            (492.0, "8m12s"),
            (11_100.0, "3h05m"),
            (100_000.0, "27h46m"),
            (3_542_400.0, "41d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn bytes_have_three_digits_at_most() {
        let cases = [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1536.0, "1.5 kB"),
            (12.0 * 1_048_576.0, "12 MB"),
            (4.2e9, "3.9 GB"),
        ];
        for (value, text) in cases {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn counts_keep_small_values_visible() {
        let cases = [
            (0.0, "0"),
            (0.01, "<0.1"),
            (3.94, "3.9"),
            (7.0, "7"),
            (412.4, "412"),
            (1234.0, "1.2k"),
            (2.4e6, "2.4M"),
        ];
        for (value, text) in cases {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn a_share_is_whole_only_when_it_is() {
        assert_eq!(share(0.9997), "99.9%");
        assert_eq!(share(1.0), "100%");
        assert_eq!(share(0.0), "0.0%");
    }

    #[test]
    fn times_are_utc() {
        let at: Timestamp = "2026-11-02T16:02:11.5Z".parse().unwrap();
        assert_eq!(clock(at), "16:02:11Z");
        assert_eq!(rfc3339(at), "2026-11-02T16:02:11.500Z");
    }
}
