//! Tables as data: a column is a name, a title, a width, a priority and a function from a row to a value. Sorting,
//! hiding, filtering and drawing derive from it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use crate::engine::Series;
use crate::format;
use crate::text;

/// What a piece of text means; a theme says how that looks.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    Hash,
    strum::EnumIter,
    strum::IntoStaticStr,
    strum::EnumString,
)]
#[strum(serialize_all = "kebab-case")]
#[expect(missing_docs, reason = "each name is its meaning")]
pub enum Role {
    #[default]
    Text,
    Dim,
    Label,
    Key,
    Title,
    Border,
    Focus,
    Header,
    Selected,
    Critical,
    Warning,
    Notice,
    Good,
    Gone,
    Input,
}

/// A piece of text with its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What it means.
    pub role: Role,
    /// The text; it may hold anything, the painter makes it safe.
    pub text: Cow<'static, str>,
}

impl Span {
    /// A span of a role.
    pub fn new(role: Role, text: impl Into<Cow<'static, str>>) -> Self {
        Self { role, text: text.into() }
    }

    /// A span of plain text.
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Role::Text, text)
    }
}

/// The text of a statement: its literals are shown unless the screen is to be private.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sql {
    /// What is said before it.
    pub before: String,
    /// The text as the server gave it.
    pub text: Arc<str>,
}

impl Sql {
    /// On one line.
    pub fn show(&self, private: bool) -> String {
        let text = if private { text::masked(&self.text) } else { Cow::Borrowed(&*self.text) };
        format!("{}{}", self.before, text::folded(&text))
    }
}

/// What a cell holds, before it is written out.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing to say here.
    None,
    /// Not known: shown as `?`.
    Unknown,
    /// Text of any kind.
    Text(String),
    /// The text of a statement.
    Sql(Sql),
    /// A whole number.
    Integer(i64),
    /// Seconds.
    Age(f64),
    /// Milliseconds.
    DurationMs(f64),
    /// A count or a rate.
    Count(f64),
    /// Bytes, or bytes a second.
    Bytes(f64),
    /// A share of one.
    Share(f64),
    /// A factor: `195x`.
    Factor(f64),
    /// Values over time, drawn from zero to the largest; compared by the newest.
    Trend(Series),
}

impl Value {
    /// A value that may be unknown.
    pub fn known<T>(value: Option<T>, of: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Unknown, of)
    }

    /// A value that may be absent because there is nothing to say.
    pub fn some<T>(value: Option<T>, of: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::None, of)
    }

    /// The text of the cell; where the screen is private, without literals of statements.
    pub fn show(&self, private: bool) -> Cow<'_, str> {
        match self {
            Self::None => Cow::Borrowed("-"),
            Self::Unknown => Cow::Borrowed("?"),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Sql(sql) => sql.show(private).into(),
            Self::Integer(number) => number.to_string().into(),
            Self::Age(seconds) => format::age(*seconds).into(),
            Self::DurationMs(ms) => format::duration_ms(*ms).into(),
            Self::Count(count) => format::count(*count).into(),
            Self::Bytes(bytes) => format::bytes(*bytes).into(),
            Self::Share(ratio) => format::share(*ratio).into(),
            Self::Factor(factor) if *factor < 10.0 => format!("{factor:.1}x").into(),
            Self::Factor(factor) => format!("{factor:.0}x").into(),
            // Drawn by whoever knows which characters may be used.
            Self::Trend(_) => Cow::Borrowed(""),
        }
    }

    /// The order of two values; what is missing compares as missing, whatever the direction.
    fn number(&self) -> Option<f64> {
        match self {
            Self::None | Self::Unknown | Self::Text(_) | Self::Sql(_) => None,
            Self::Trend(series) => series.last().copied().flatten(),
            #[expect(clippy::cast_precision_loss, reason = "only for ordering")]
            Self::Integer(number) => Some(*number as f64),
            Self::Age(n)
            | Self::DurationMs(n)
            | Self::Count(n)
            | Self::Bytes(n)
            | Self::Share(n)
            | Self::Factor(n) => Some(*n),
        }
    }

    /// Compares for sorting: missing values stay at the end in both directions.
    pub fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let turned = |order: Ordering| if descending { order.reverse() } else { order };
        match (self.number(), other.number()) {
            (Some(a), Some(b)) => turned(a.total_cmp(&b)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => match (self, other) {
                (Self::Text(a), Self::Text(b)) => turned(a.cmp(b)),
                (Self::Sql(a), Self::Sql(b)) => turned(a.text.cmp(&b.text)),
                (Self::Text(_) | Self::Sql(_), _) => Ordering::Less,
                (_, Self::Text(_) | Self::Sql(_)) => Ordering::Greater,
                _ => Ordering::Equal,
            },
        }
    }
}

/// A value and how it is meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The value.
    pub value: Value,
    /// How it is meant.
    pub role: Role,
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        Self { value, role: Role::Text }
    }
}

/// On which side a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// How wide a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// So many terminal columns.
    Fixed(u16),
    /// Whatever is left.
    Rest,
}

/// A column of a table whose rows `F` turns into cells.
#[derive(Debug, Clone, Copy)]
pub struct Column<F> {
    /// Its name in the config.
    pub name: &'static str,
    /// Its title on the screen.
    pub title: &'static str,
    /// Its width.
    pub width: Width,
    /// Where its text stands.
    pub align: Align,
    /// Which columns go first when there is no room: higher numbers.
    pub priority: u8,
    /// The cell of a row.
    pub cell: F,
}

/// How a table is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// Name of the column.
    pub column: &'static str,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl Sort {
    /// The next column to the right, largest first.
    pub fn next<F>(self, columns: &[Column<F>]) -> Self {
        let place = columns.iter().position(|column| column.name == self.column).map_or(0, |place| place + 1);
        let column = columns.get(place).or_else(|| columns.first()).map_or(self.column, |column| column.name);
        Self { column, descending: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_stays_at_the_end() {
        let values = [Value::Unknown, Value::Age(1.0), Value::Age(3.0), Value::None];
        for descending in [false, true] {
            let mut sorted = values.to_vec();
            sorted.sort_by(|a, b| a.compare(b, descending));
            assert!(matches!(sorted[0], Value::Age(_)) && matches!(sorted[1], Value::Age(_)), "{sorted:?}");
        }
    }
}
